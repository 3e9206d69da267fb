"""The adapter of timm ViTs: modes, schedules that change, traces, and errors that say how to mend."""

from itertools import pairwise

import pytest
import timm
import torch

from sparsesearch.backbones.model_options import ModelOptions
from sparsesearch.backbones.models.pico import create_pico
from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.backbones.transforms import attach_, restore_, set_schedule_, sparsify_
from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, DynamicVitScorer, NormScorer, RandomScorer, SpotScorer

IMAGES = torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
HAND = Schedule.at([2, 4, 6], [0.5, 0.25, 0.1])


@pytest.fixture
def model():
    return create_pico(ModelOptions(seed=1)).eval()


def at(block, ratio, **options):
    return Step(block=block, keep_ratio=ratio, **options)


def test_trace_follows_tokens_through_all_steps(model):
    sparsify_(model, HAND)
    logits = model(IMAGES)
    assert logits.shape == (3, 10)
    steps = sparsity_of(model).state.trace.steps
    assert [step.name for step in steps] == ["0_2", "0_4", "0_6"]
    assert [tuple(step.kept_BK.shape) for step in steps] == [(3, 32), (3, 16), (3, 6)]
    for earlier, later in pairwise(steps):
        assert torch.equal(later.positions_BN, earlier.kept_BK)
        for before, after in zip(earlier.kept_BK.tolist(), later.kept_BK.tolist(), strict=True):
            assert set(after) < set(before)
    assert torch.equal(steps[0].positions_BN[0], torch.arange(64))
    assert steps[0].scores_BN2.shape == (3, 64, 2)


def test_schedules_switch_without_patching(model):
    dense = model(IMAGES)
    attach_(model, [(0, block) for block in range(1, 8)])
    classes = [type(module) for module in model.modules()]
    set_schedule_(model, HAND)
    cut = model(IMAGES)
    set_schedule_(model, Schedule.at([1], [0.2]))
    assert not torch.equal(model(IMAGES), cut)
    set_schedule_(model, HAND)
    assert torch.equal(model(IMAGES), cut)
    set_schedule_(model, Schedule())
    assert torch.equal(model(IMAGES), dense)
    assert [type(module) for module in model.modules()] == classes


def test_order_of_attaching_does_not_matter():
    one, other = create_pico(), create_pico()
    attach_(one, [(0, 2), (0, 5)], seed=7)
    sparsify_(other, Schedule.at([5], [0.5]), seed=7)
    sparsify_(other, Schedule.at([2], [0.5]), seed=7)
    ours, theirs = one.state_dict(), other.state_dict()
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_parameter_names(model):
    dense = set(model.state_dict())
    sparsify_(model, Schedule(steps=(at(2, 0.5), at(4, 0.2, phase="before_ffn"), at(6, 0.1, scorer=NormScorer()))))
    new = {key.rsplit(".", 3)[0] for key in set(model.state_dict()) - dense}
    assert new == {"sparsity.predictors.0_2", "sparsity.predictors.0_4_ffn"}
    assert dense <= set(model.state_dict())


def test_a_step_that_drops_nothing_has_no_predictor(model):
    sparsify_(model, Schedule.at([2, 4], [1.0, 0.5]))
    model(IMAGES)
    assert list(sparsity_of(model).predictors) == ["0_4"]
    assert [step.name for step in sparsity_of(model).state.trace.steps] == ["0_4"]


def test_several_steps_at_one_place_apply_in_order(model):
    sparsify_(model, Schedule(steps=(at(3, 0.5, scorer=RandomScorer(seed=2)), at(3, 0.25))))
    model(IMAGES)
    first, second = sparsity_of(model).state.trace.steps
    assert (first.learned, second.learned) == (False, True)
    assert torch.equal(second.positions_BN, first.kept_BK)
    assert second.kept_BK.shape == (3, 16)


def test_random_control_keeps_the_same_positions_in_every_image_and_at_every_depth(model):
    control = RandomScorer(seed=4)
    sparsify_(model, Schedule(steps=(at(2, 0.5, scorer=control), at(5, 0.25, scorer=control))))
    model(IMAGES)
    first, second = sparsity_of(model).state.trace.steps
    assert torch.equal(first.kept_BK[0], first.kept_BK[1])
    assert torch.equal(second.kept_BK[0], first.kept_BK[0][:16])


def test_gathered_training_drops_and_its_noise_is_its_own(model):
    sparsify_(model, Schedule.at([2], [0.5]), seed=5)
    state = sparsity_of(model).state
    model.train()
    model(IMAGES)
    calm = state.trace.steps[0].kept_BK
    assert calm.shape == (3, 32)
    state.noise = 3.0
    global_state = torch.get_rng_state()
    state.generator = torch.Generator().manual_seed(9)
    model(IMAGES)
    noisy = state.trace.steps[0].kept_BK
    assert torch.equal(torch.get_rng_state(), global_state)
    state.generator = torch.Generator().manual_seed(9)
    model(IMAGES)
    assert torch.equal(state.trace.steps[0].kept_BK, noisy)
    assert not torch.equal(noisy, calm)
    model.eval()
    first = model(IMAGES)
    assert torch.equal(model(IMAGES), first)


def test_masked_training_keeps_all_tokens_and_sends_gradient_to_every_predictor(model):
    sparsify_(model, HAND)
    state = sparsity_of(model).state
    state.mode = "masked"
    state.keep_final_tokens = True
    model.train()
    model(IMAGES).square().sum().backward()
    decisions = [step.decision_BN for step in state.trace.steps]
    assert all(set(decision.unique().tolist()) <= {0.0, 1.0} for decision in decisions)
    for earlier, later in pairwise(decisions):
        assert (later <= earlier).all()
    assert state.trace.final_tokens_BNC.shape == (3, 64, 48)
    for predictor in sparsity_of(model).predictors.values():
        assert predictor.in_conv[1].weight.grad.abs().max() > 0
    model.eval()
    model(IMAGES)
    assert state.trace.steps[0].kept_BK.shape == (3, 32)
    assert state.trace.final_tokens_BNC.shape == (3, 6, 48)


def test_dense_pass_in_masked_mode_is_plain(model):
    attach_(model, [(0, 2)])
    sparsity_of(model).state.mode = "masked"
    expected = model(IMAGES)
    for module in model.modules():
        if not isinstance(module, torch.nn.BatchNorm2d):
            module.training = True
    assert torch.equal(model(IMAGES), expected)


def test_probes_score_everywhere_else(model):
    attach_(
        model,
        [(0, block, "before_block", scorer) for block in (1, 2, 5) for scorer in (NormScorer(), DynamicVitScorer())],
    )
    sparsity = sparsity_of(model)
    set_schedule_(model, Schedule.at([2], [0.25]))
    without = model(IMAGES)
    sparsity.state.probe = True
    assert torch.equal(model(IMAGES), without)
    steps = sparsity.state.trace.steps
    assert [(s.name, s.scores_BN2.shape[1], s.kept_BK is None) for s in steps] == [
        ("0_1", 64, True),
        ("0_2", 64, False),
        ("0_5", 16, True),
    ]
    assert torch.equal(steps[2].positions_BN, steps[1].kept_BK)
    steps[0].score_BN.sum().backward()
    assert sparsity.predictors["0_1"].in_conv[1].weight.grad is not None
    assert sparsity.state.trace.at("0_5") is steps[2]
    with pytest.raises(KeyError):
        sparsity.state.trace.at("0_7")


def test_without_a_record_outputs_are_the_same(model):
    control = RandomScorer(seed=4)
    sparsify_(model, Schedule(steps=(at(2, 0.5), at(5, 0.25, scorer=control))))
    expected = model(IMAGES)
    state = sparsity_of(model).state
    recorded, state.record = state.trace, False
    assert torch.equal(model(IMAGES), expected)
    assert state.trace is recorded


@pytest.mark.parametrize("mode", ["gather", "masked"])
def test_everything_stays_on_the_device_of_the_model(mode):
    with torch.device("meta"):
        model = create_pico().train()
    steps = (
        at(1, 0.6),
        at(3, 0.4, phase="before_ffn"),
        at(5, 0.2, scorer=RandomScorer()),
        at(6, 0.1, scorer=NormScorer()),
    )
    sparsify_(model, Schedule(steps=steps))
    attach_(model, [(0, 2)])
    state = sparsity_of(model).state
    state.mode, state.noise, state.probe = mode, 0.3, True
    assert model(IMAGES.to("meta")).device.type == "meta"
    assert len(state.trace.steps) == 5


def test_half_precision_under_autocast(model):
    sparsify_(model, HAND)
    model.train()
    for mode in ("gather", "masked"):
        sparsity_of(model).state.mode = mode
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = model(IMAGES)
        assert logits.isfinite().all()


def test_predictors_take_the_type_of_the_model(model):
    model.double()
    sparsify_(model, HAND)
    assert model(IMAGES.double()).dtype == torch.float64


ERRORS = [
    (Schedule.at([8], [0.5]), "blocks 0 to 7"),
    (Schedule(steps=(Step(stage=1, block=0, keep_ratio=0.5),)), "stage 1 does not exist"),
    (Schedule(steps=(at(2, 0.5), at(2, 0.25))), "share one predictor"),
]


@pytest.mark.parametrize(("schedule", "words"), ERRORS)
def test_a_schedule_that_does_not_fit_changes_nothing(model, schedule, words):
    before = {name: type(module) for name, module in model.named_modules()}
    with pytest.raises(ScheduleError, match=words):
        sparsify_(model, schedule)
    assert {name: type(module) for name, module in model.named_modules()} == before


def test_a_predictor_that_is_not_attached(model):
    attach_(model, [(0, 2)])
    with pytest.raises(ScheduleError, match=r"no dynamicvit predictor at block 3.*attach_"):
        set_schedule_(model, Schedule.at([3], [0.5]))


def test_attaching_at_a_place_that_does_not_exist(model):
    for place in ((0, 8), (1, 0), (0, -1)):
        with pytest.raises(ScheduleError, match="does not exist"):
            attach_(model, [place])


def test_before_ffn_needs_a_plain_block():
    model = timm.create_model("vit_pwee_patch16_reg1_gap_256", img_size=64, depth=2)
    with pytest.raises(ScheduleError, match="Block or EvaBlock, but block 1 is a ParallelScalingBlock"):
        sparsify_(model, Schedule(steps=(at(1, 0.5, phase="before_ffn"),)))


def test_a_dense_model_has_no_schedule_to_switch(model):
    with pytest.raises(BackboneError, match="VisionTransformer is not sparse"):
        set_schedule_(model, HAND)
    restore_(model)


def test_other_models_are_refused():
    for verb in (lambda m: sparsify_(m, HAND), lambda m: attach_(m, []), restore_):
        with pytest.raises(BackboneError, match="Linear cannot be sparsified; supported are"):
            verb(torch.nn.Linear(2, 2))


def test_models_that_drop_patches_at_random_are_refused():
    model = timm.create_model("deit_tiny_patch16_224", img_size=64, depth=2, patch_drop_rate=0.3)
    with pytest.raises(BackboneError, match="patch_drop_rate=0"):
        sparsify_(model, Schedule.at([1], [0.5]))


def test_images_of_another_size_are_refused():
    model = timm.create_model("deit_tiny_patch16_224", img_size=64, depth=2, dynamic_img_size=True)
    sparsify_(model, Schedule.at([1], [0.5]))
    model(torch.zeros(1, 3, 64, 64))
    with pytest.raises(BackboneError, match="there are 36 patch tokens at 0_1, but the schedule was set for 16"):
        model(torch.zeros(1, 3, 96, 96))


@pytest.mark.parametrize("mode", ["gather", "masked"])
def test_gradient_checkpointing_changes_no_gradient(model, mode):
    """Nor what is chosen: tokens are scored once, and blocks run again under the decisions of their first time."""
    sparsify_(model, Schedule.at([2, 5], [0.5, 0.25]))
    model.train()
    state = model.sparsity.state
    state.mode, state.noise = mode, 0.3
    found = []
    for checkpointing in (False, True):
        state.generator = torch.Generator().manual_seed(0)
        model.zero_grad()
        model.set_grad_checkpointing(checkpointing)
        loss = model(torch.randn(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))).square().sum()
        num_steps = len(state.trace.steps)
        set_schedule_(model, Schedule())
        loss.backward()
        set_schedule_(model, Schedule.at([2, 5], [0.5, 0.25]))
        found.append((loss.item(), num_steps, {k: p.grad for k, p in model.named_parameters() if p.grad is not None}))
        assert model.grad_checkpointing is checkpointing
    assert found[0][:2] == found[1][:2]
    assert found[0][2].keys() == found[1][2].keys()
    for name, grad in found[0][2].items():
        torch.testing.assert_close(found[1][2][name], grad, rtol=1e-4, atol=1e-5, msg=name)


def test_attention_masks_are_refused_when_sparse_and_pass_when_dense(model):
    mask = torch.zeros(65, 65)
    expected = model(IMAGES, attn_mask=mask)
    attach_(model, [(0, 2)])
    assert torch.equal(model(IMAGES, attn_mask=mask), expected)
    set_schedule_(model, Schedule.at([2], [0.5]))
    with pytest.raises(BackboneError, match="does not support attention masks"):
        model(IMAGES, attn_mask=mask)


def test_unknown_mode(model):
    sparsify_(model, HAND)
    sparsity_of(model).state.mode = "mask"
    with pytest.raises(BackboneError, match="invalid mode 'mask'"):
        model(IMAGES)


def test_forced_decisions_are_for_masked_training(model):
    sparsify_(model, HAND)
    sparsity_of(model).state.forced = {"0_2": torch.ones(3, 64)}
    model(IMAGES)
    with pytest.raises(ScheduleError, match="require masked training"):
        model.train()(IMAGES)


def test_masked_training_refuses_pools_that_cannot_leave_tokens_out():
    model = timm.create_model("vit_base_patch16_siglip_224", img_size=64, depth=2, embed_dim=192, num_heads=3)
    sparsify_(model, Schedule.at([1], [0.5]))
    sparsity_of(model).state.mode = "masked"
    with pytest.raises(BackboneError, match='mode="gather"'):
        model.train()(torch.zeros(1, 3, 64, 64))


def test_masked_training_needs_plain_attention():
    model = timm.create_model("vit_pwee_patch16_reg1_gap_256", img_size=64, depth=2)
    sparsify_(model, Schedule.at([1], [0.5]))
    sparsity_of(model).state.mode = "masked"
    with pytest.raises(BackboneError, match="masked training requires"):
        model.train()(torch.zeros(1, 3, 64, 64))


def test_spot_reads_an_attention_that_a_step_before_it_has_seen_too(model):
    """Between a step before the feed-forward network and one before the next block lies no attention."""
    steps = (at(2, 0.5, phase="before_ffn", scorer=ClassAttentionScorer()), at(3, 0.25, scorer=SpotScorer()))
    sparsify_(model, Schedule(steps=steps))
    model(IMAGES)
    first, second = sparsity_of(model).state.trace.steps
    for before, after in zip(first.kept_BK.tolist(), second.kept_BK.tolist(), strict=True):
        assert set(after) < set(before)

"""ConvNeXt and Swin with fast and slow paths: against timm's own parts run by hand, in every mode."""

import copy

import pytest
import timm
import torch
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from torch import nn

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.registry import create_model, geometry
from sparsesearch.backbones.sparsity import Location, sparsity_of
from sparsesearch.backbones.transforms import attach_, restore_, set_schedule_, sparsify_
from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    NormScorer,
    Prune,
    RandomScorer,
)

SIZE = (64, 96)


def convnext(**options):
    options = {"depths": (1, 2, 4, 1), "dims": (8, 16, 24, 32), "num_classes": 5, "ls_init_value": 0.5, **options}
    model = ConvNeXt(**options)
    model.pretrained_cfg = {"input_size": (3, *SIZE)}
    return model


def swin(**options):
    options = {"img_size": SIZE, "embed_dim": 8, "depths": (1, 2, 4), "num_heads": (1, 2, 4), **options}
    return SwinTransformer(num_classes=5, drop_path_rate=options.pop("drop_path_rate", 0.0), **options)


MODELS = {
    "convnext": convnext,
    "convnext, 1x1 convolutions": lambda: convnext(conv_mlp=True),
    "convnext, norm first": lambda: convnext(head_norm_first=True, ls_init_value=None),
    "swin": lambda: swin(window_size=4),
    "swin, padded windows": lambda: swin(window_size=3),
}
KINDS = ("linear", "bottleneck", "identity")


def build(kind):
    torch.manual_seed(0)
    model = MODELS[kind]()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return model.eval(), torch.randn(2, 3, *SIZE, generator=generator)


def step(stage, block, ratio, fast_path="linear", scorer=None):
    return Step(stage=stage, block=block, keep_ratio=ratio, scorer=scorer, reducer=FastSlow(fast_path=fast_path))


def liven_(model):
    """Give fast paths weights that show."""
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for key, parameter in sparsity_of(model).named_parameters():
            if "fast_paths" in key or "out_conv" in key:
                parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))


def stages_of(model):
    return model.stages if isinstance(model, ConvNeXt) else model.layers


def stem_of(model):
    return model.stem if isinstance(model, ConvNeXt) else model.patch_embed


def as_rows(model, x):
    return (x.permute(0, 2, 3, 1) if isinstance(model, ConvNeXt) else x).flatten(1, 2)


def as_map(model, x_BNC, like):
    if isinstance(model, ConvNeXt):
        return x_BNC.transpose(1, 2).reshape(like.shape)
    return x_BNC.reshape(like.shape)


def block_by_hand(model, block, x, slow_BN, fast):
    """timm's own feed-forward network on every position, the fast path on every position, and a choice of them."""
    if isinstance(model, ConvNeXt):
        mixed, residual = block.conv_dw(x), x
        if block.use_conv_mlp:
            slow = block.mlp(block.norm(mixed))
        else:
            slow = block.mlp(block.norm(mixed.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
        if block.gamma is not None:
            slow = slow * block.gamma.reshape(1, -1, 1, 1)
    else:
        mixed = residual = x + block._attn(block.norm1(x))
        slow = block.mlp(block.norm2(mixed))
    rows = as_rows(model, mixed)
    fast_BNC = torch.zeros_like(rows) if fast is None else fast(rows)
    branch_BNC = torch.where(slow_BN[..., None], as_rows(model, slow), fast_BNC)
    return residual + as_map(model, branch_BNC, residual)


def run_by_hand(dense, sparse, images):
    """The dense model with, in each stage, the fast paths and the choices that the sparse one made."""
    sparsity = sparsity_of(sparse)
    traced = {s.name: s for s in sparsity.state.trace.steps}
    x = stem_of(dense)(images)
    for index, stage in enumerate(stages_of(dense)):
        x = stage.downsample(x)
        slow_BN = None
        for number, block in enumerate(stage.blocks):
            place = f"{index}_{number}"
            for planned in (s for s in sparsity.schedule.steps if (s.stage, s.block) == (index, number)):
                kind = planned.reducer.fast_path
                kept = traced[place].kept_BK
                slow_BN = None
                if kept is not None:
                    slow_BN = torch.zeros(2, as_rows(dense, x).shape[1], dtype=torch.bool).scatter_(1, kept, True)
            if slow_BN is None:
                x = block(x)
            else:
                name = place if kind == "linear" else f"{place}_{kind}"
                fast = None if kind == "identity" else sparsity.fast_paths[name]
                x = block_by_hand(dense, block, x, slow_BN, fast)
    x = dense.norm_pre(x) if isinstance(dense, ConvNeXt) else dense.norm(x)
    return dense.forward_head(x)


SCHEDULES = {
    "one": [step(2, 1, 0.5)],
    "three": [step(2, 0, 0.7), step(2, 1, 0.4), step(2, 3, 0.6)],
    "several stages": [step(0, 0, 0.3), step(1, 1, 0.5), step(2, 2, 0.25)],
    "controls": [step(1, 0, 0.5, scorer=NormScorer()), step(2, 2, 0.3, scorer=RandomScorer(seed=1))],
    "kinds": [step(2, 0, 0.5, "bottleneck"), step(2, 1, 0.5, "identity"), step(2, 2, 0.25, "linear")],
    "and all slow again": [step(2, 0, 0.5), step(2, 2, 1.0)],
}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("where", SCHEDULES)
@torch.no_grad()
def test_slow_rows_by_timm_and_fast_rows_by_hand(kind, where):
    model, images = build(kind)
    dense = copy.deepcopy(model)
    sparsify_(model, Schedule(steps=tuple(SCHEDULES[where])))
    liven_(model)
    logits = model(images)
    torch.testing.assert_close(logits, run_by_hand(dense, model, images), rtol=0, atol=2e-6)
    assert not torch.allclose(logits, dense(images), atol=1e-3)


@pytest.mark.parametrize("kind", MODELS)
@torch.no_grad()
def test_nothing_on_the_fast_path_nothing_changed(kind):
    model, images = build(kind)
    expected = model(images)
    attach_(model, [Location(stage, 0, reducer=FastSlow()) for stage in (1, 2)])
    assert torch.equal(model(images), expected)
    set_schedule_(model, Schedule(steps=(step(1, 0, 1.0), step(2, 0, 1.0))))
    assert torch.equal(model(images), expected)
    state = sparsity_of(model).state
    state.probe = True
    assert torch.equal(model(images), expected)
    assert [(s.name, s.kept_BK) for s in state.trace.steps] == [("1_0", None), ("2_0", None)]
    state.probe = False
    state.mode = "masked"
    assert torch.equal(model.train()(images), expected)


@pytest.mark.parametrize("kind", MODELS)
def test_restore_is_the_identity(kind):
    model, images = build(kind)
    with torch.no_grad():
        expected = model(images)
    classes = [type(module) for module in model.modules()]
    attributes = [sorted(module.__dict__) for module in model.modules()]
    keys = list(model.state_dict())
    sparsify_(model, Schedule(steps=tuple(SCHEDULES["kinds"])))
    assert isinstance(model, ConvNeXt | SwinTransformer)
    assert list(model.state_dict())[: len(keys)] == keys
    restore_(model)
    assert [type(module) for module in model.modules()] == classes
    assert [sorted(module.__dict__) for module in model.modules()] == attributes
    assert list(model.state_dict()) == keys
    with torch.no_grad():
        assert torch.equal(model(images), expected)


@pytest.mark.parametrize("kind", ["convnext", "swin"])
@torch.no_grad()
def test_state_dict_round_trip_and_copies(kind):
    model, images = build(kind)
    schedule = Schedule(steps=tuple(SCHEDULES["three"]))
    sparsify_(model, schedule)
    liven_(model)
    other, _ = build(kind)
    sparsify_(other, schedule, seed=5)
    assert not torch.allclose(other(images), model(images), atol=1e-3)
    other.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(other(images), model(images))
    copied = copy.deepcopy(model)
    state = sparsity_of(copied).state
    assert state is not sparsity_of(model).state
    assert new_call(copied).fast_path((2, 1)) is sparsity_of(copied).fast_paths["2_1"]
    assert torch.equal(copied(images), model(images))


def test_names_and_initial_values():
    model, _ = build("convnext")
    sparsify_(model, Schedule(steps=tuple(SCHEDULES["kinds"])))
    paths = sparsity_of(model).fast_paths
    assert sorted(paths) == ["2_0_bottleneck", "2_1_bottleneck", "2_2", "2_2_bottleneck", "2_3", "2_3_bottleneck"]
    assert sorted(key for key, _ in paths["2_2"].named_parameters()) == [
        "fc.bias", "fc.weight", "gamma", "norm.bias", "norm.weight",
    ]  # fmt: skip
    assert paths["2_0_bottleneck"].fc1.weight.shape == (6, 24)
    assert torch.equal(paths["2_2"].gamma, torch.full((24,), 1e-6))
    assert paths["2_2"].norm.eps == sparsity_of(model).predictors["2_2"].in_conv[0].eps == 1e-6
    assert paths["2_2"].fc.weight.std().item() == pytest.approx(0.02, rel=0.2)
    again, _ = build("convnext")
    sparsify_(again, Schedule(steps=(step(2, 2, 0.5),)))
    assert torch.equal(paths["2_2"].fc.weight, sparsity_of(again).fast_paths["2_2"].fc.weight)
    model, _ = build("swin")
    sparsify_(model, Schedule(steps=(step(2, 2, 0.5),)))
    path = sparsity_of(model).fast_paths["2_2"]
    assert path.gamma is None
    assert path.norm.eps == sparsity_of(model).predictors["2_2"].in_conv[0].eps == 1e-5


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("where", ["one", "controls", "and all slow again"])
@torch.no_grad()
def test_masked_equals_gathered_where_no_position_changes_path(kind, where):
    model, images = build(kind)
    sparsify_(model, Schedule(steps=tuple(SCHEDULES[where])))
    liven_(model)
    state = sparsity_of(model).state
    state.keep_final_tokens = True
    gathered = model(images)
    final = state.trace.final_tokens_BNC
    state.forced = {
        s.name: torch.zeros(s.scores_BN2.shape[:2]).scatter_(1, s.kept_BK, 1.0)
        for s in state.trace.steps
        if s.kept_BK is not None
    }
    state.mode = "masked"
    torch.testing.assert_close(model.train()(images), gathered, rtol=0, atol=2e-6)
    torch.testing.assert_close(state.trace.final_tokens_BNC, final, rtol=0, atol=2e-6)
    decisions = [s.decision_BN for s in state.trace.steps if s.decision_BN is not None]
    assert [d.sum(1).tolist() for d in decisions] == [m.sum(1).tolist() for m in state.forced.values()]
    if where == "controls":
        state.forced = None
        torch.testing.assert_close(model(images), gathered, rtol=0, atol=2e-6)


@pytest.mark.parametrize("kind", ["convnext", "swin"])
@pytest.mark.parametrize("fast_path", KINDS)
def test_gathered_training_has_the_gradients_of_the_dense_formula(kind, fast_path):
    model, images = build(kind)
    dense = copy.deepcopy(model)
    sparsify_(model, Schedule(steps=(step(1, 1, 0.5, fast_path), step(2, 1, 0.4, fast_path))))
    liven_(model)
    weight = torch.randn(2, 5, generator=torch.Generator().manual_seed(3))
    (model.train()(images, call=new_call(model)) * weight).sum().backward()
    (run_by_hand(dense, model, images) * weight).sum().backward()
    gradients = {key: parameter.grad for key, parameter in model.named_parameters()}
    for key, parameter in dense.named_parameters():
        torch.testing.assert_close(gradients[key], parameter.grad, rtol=1e-4, atol=1e-5)
    for key, gradient in gradients.items():
        if "fast_paths" in key:  # the formula by hand ran the same modules: half of what is there is its own
            assert gradient is not None
    fast = {key: value.clone() for key, value in gradients.items() if "fast_paths" in key}
    model.zero_grad()
    (model(images, call=new_call(model)) * weight).sum().backward()
    for key, parameter in model.named_parameters():
        if key in fast:
            torch.testing.assert_close(2 * parameter.grad, fast[key], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["convnext", "swin"])
def test_masked_training_reaches_predictors_and_both_paths(kind):
    model, images = build(kind)
    sparsify_(model, Schedule(steps=tuple(SCHEDULES["three"])))
    liven_(model)
    state = sparsity_of(model).state
    state.mode = "masked"
    model.train()(images).square().sum().backward()
    assert len(state.trace.steps) == 3
    for s in state.trace.steps:
        assert set(s.decision_BN.unique().tolist()) <= {0.0, 1.0}
    assert not torch.equal(state.trace.steps[0].decision_BN, state.trace.steps[1].decision_BN)
    assert state.trace.pair is None
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key


@torch.no_grad()
def test_noise_draws_other_positions_in_training_only():
    model, images = build("swin")
    sparsify_(model, Schedule(steps=tuple(SCHEDULES["one"])))
    state = sparsity_of(model).state
    kept = lambda: (model(images), state.trace.at("2_1").kept_BK.sort(dim=1).values)[1]  # noqa: E731
    expected = kept()
    state.noise = 1.0
    assert torch.equal(kept(), expected)
    model.train()
    assert not torch.equal(kept(), expected)


@torch.no_grad()
def test_stochastic_depth_drops_whole_branches_of_an_image():
    for model in (convnext(drop_path_rate=0.9), swin(window_size=4, drop_path_rate=0.9)):
        images = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))
        sparsify_(model, Schedule(steps=tuple(SCHEDULES["one"])))
        for mode in ("gather", "masked"):
            sparsity_of(model).state.mode = mode
            assert model.train()(images).isfinite().all()


@pytest.mark.parametrize("kind", ["convnext", "swin"])
@torch.no_grad()
def test_what_is_recorded(kind):
    model, images = build(kind)
    sparsify_(model, Schedule(steps=(step(2, 1, 0.5), step(2, 2, 0.25))))
    attach_(model, [Location(1, 1, reducer=FastSlow()), Location(2, 3, reducer=FastSlow())])
    state = sparsity_of(model).state
    state.probe = True
    model(images)
    steps = state.trace.steps
    assert [s.name for s in steps] == ["1_1", "2_1", "2_2", "2_3"]
    assert [None if s.kept_BK is None else s.kept_BK.shape[1] for s in steps] == [None, 12, 6, None]
    best = steps[1].score_BN.topk(12, dim=1).indices
    assert torch.equal(steps[1].kept_BK, best)
    assert all(torch.equal(s.positions_BN[0], torch.arange(s.scores_BN2.shape[1])) for s in steps)
    expected = model(images)
    recorded, state.record = state.trace, False
    assert torch.equal(model(images), expected)
    assert state.trace is recorded


COMPILED = [
    Schedule(steps=(step(1, 0, 0.5), step(2, 0, 0.7), step(2, 1, 0.4, "bottleneck"), step(2, 2, 0.2, "identity"))),
    Schedule(steps=(step(2, 0, 0.7, scorer=RandomScorer()), step(2, 2, 0.4, scorer=NormScorer()))),
]


@pytest.mark.parametrize("kind", ["convnext", "convnext, 1x1 convolutions", "swin", "swin, padded windows"])
@pytest.mark.parametrize("schedule", COMPILED)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_compiles_as_one_graph(kind, schedule):
    torch._dynamo.reset()
    model, images = build(kind)
    sparsify_(model, schedule)
    liven_(model)
    sparsity_of(model).state.record = False
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), model(images), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["convnext", "swin"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@torch.no_grad()
def test_exports_with_a_free_batch_size(kind):
    model, images = build(kind)
    sparsify_(model, COMPILED[0])
    sparsity_of(model).state.record = False
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},))
    torch.testing.assert_close(program.module()(images[:1]), model(images[:1]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["convnext", "swin"])
@pytest.mark.parametrize("mode", ["gather", "masked"])
def test_other_types(kind, mode):
    model, images = build(kind)
    sparsify_(model, Schedule(steps=tuple(SCHEDULES["kinds"])))
    sparsity_of(model).state.mode = mode
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert model.train()(images).isfinite().all()
    model.bfloat16()
    assert model(images.bfloat16()).dtype == torch.bfloat16
    assert model.to("meta")(images.bfloat16().to("meta")).device.type == "meta"


def test_images_of_another_size_are_refused_where_paths_are_chosen():
    model = convnext()
    sparsify_(model, Schedule(steps=(step(2, 1, 0.5),)))
    model(torch.zeros(1, 3, *SIZE))
    with pytest.raises(BackboneError, match="the grid at 2_1 is 8x8, but the schedule was set for 4x6"):
        model(torch.zeros(1, 3, 128, 128))


@pytest.mark.parametrize("kind", ["convnext", "swin"])
def test_what_cannot_be_done_is_refused(kind):
    model, images = build(kind)
    for bad, words in (
        (Step(stage=2, block=1, keep_ratio=0.5, reducer=Prune()), "remove tokens from the grid"),
        (step(2, 1, 0.5, scorer=ClassAttentionScorer()), "global attention"),
        (step(2, 9, 0.5), "blocks 0 to 3 in stage 2"),
        (step(7, 0, 0.5), "stage 7 does not exist"),
    ):
        with pytest.raises(ScheduleError, match=words):
            sparsify_(model, Schedule(steps=(bad,)))
    attach_(model, [Location(2, 1, scorer=DynamicVitScorer(), reducer=FastSlow())])
    good = Schedule(steps=(step(2, 1, 0.5),))
    set_schedule_(model, good)
    with torch.no_grad():
        expected = model(images)
        with pytest.raises(ScheduleError, match="no bottleneck fast path at block 1 of stage 2"):
            set_schedule_(model, Schedule(steps=(step(2, 1, 0.3, "bottleneck"),)))
        assert sparsity_of(model).schedule == good
        assert torch.equal(model(images), expected)
    sparsity_of(model).state.forced = {"2_1": torch.ones(2, 24)}
    with pytest.raises(ScheduleError, match="require masked training"):
        model.train()(images)


@pytest.mark.parametrize("mode", ["gather", "masked"])
@pytest.mark.parametrize("kind", ["convnext", "swin"])
def test_gradient_checkpointing_changes_no_gradient(kind, mode):
    """Nor what is chosen: positions are scored once, and blocks run again under the decisions of their first time."""
    model, images = build(kind)
    schedule = Schedule(steps=(step(1, 1, 0.6), step(2, 1, 0.5), step(2, 3, 0.25)))
    sparsify_(model, schedule)
    liven_(model)
    model.train()
    state = sparsity_of(model).state
    state.mode, state.noise = mode, 0.3
    calls = []
    stages_of(model)[2].blocks[2].mlp.register_forward_hook(lambda *_: calls.append(1))
    found = []
    for checkpointing in (False, True):
        state.generator = torch.Generator().manual_seed(0)
        calls.clear()
        model.zero_grad()
        model.set_grad_checkpointing(checkpointing)
        loss = model(images).square().sum()
        num_steps = len(state.trace.steps)
        set_schedule_(model, Schedule())
        loss.backward()
        set_schedule_(model, schedule)
        found.append((loss.item(), num_steps, {k: p.grad for k, p in model.named_parameters() if p.grad is not None}))
        assert len(calls) == 1 + checkpointing
        assert all(stage.grad_checkpointing is checkpointing for stage in stages_of(model))
    assert found[0][:2] == found[1][:2]
    assert found[0][1] == 3
    assert found[0][2].keys() == found[1][2].keys()
    for name, grad in found[0][2].items():
        torch.testing.assert_close(found[1][2][name], grad, rtol=1e-4, atol=1e-5, msg=name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("convnextv2_atto", "normalises over all positions"),
        ("swinv2_tiny_window8_256", "family that cannot be sparsified"),
        ("maxvit_tiny_tf_224", "family that cannot be sparsified"),
    ],
)
def test_other_families_are_refused(name, words):
    with pytest.raises(BackboneError, match=words) as raised:
        create_model(name)
    assert "\n" not in str(raised.value)


def test_models_that_cannot_be_priced_or_made():
    with pytest.raises(BackboneError, match="SwinTransformerV2Cr cannot be sparsified"):
        sparsify_(timm.create_model("swinv2_cr_tiny_224", depths=(1, 1, 1, 1)).cpu(), Schedule())
    with pytest.raises(BackboneError, match='global_pool="avg"'):
        geometry(convnext(global_pool=""), "x")
    model = convnext()
    model.head = nn.Linear(32, 5)
    with pytest.raises(BackboneError, match="has a Linear as its head"):
        geometry(model, "x")
    with pytest.raises(BackboneError, match=r"16x16 pixels are too small.*32x32"):
        create_model("convnext_t", image_size=16)

"""A loop that knows nothing of sparse models teaches every scorer, and gives every parameter a gradient."""

import copy

import pytest
import timm
import torch
from torch.nn.functional import cross_entropy

import sparsesearch.timm  # noqa: F401
from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.transforms import attach_, set_schedule_, sparsify_
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Fuse,
    Merge,
    SpotScorer,
)

IMAGES = torch.randn(6, 1, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.tensor([0, 1, 2, 3, 4, 4])


def classless():
    return timm.create_model(
        "vit_little_patch16_reg1_gap_256", img_size=32, patch_size=4, depth=8, embed_dim=48, num_heads=3, num_classes=5,
        in_chans=1,
    )  # fmt: skip


def tokens(scorer, *, ratios=(0.7, 0.5, 0.3), phase="before_block", **options):
    steps = zip((2, 4, 6), ratios, strict=True)
    return Schedule(steps=tuple(Step(block=b, keep_ratio=r, scorer=scorer, phase=phase, **options) for b, r in steps))


def paths(kind="linear", *, ratios=(0.7, 0.4), **options):
    steps = zip((1, 2), ratios, strict=True)
    return Schedule(
        steps=tuple(Step(stage=1, block=b, keep_ratio=r, reducer=FastSlow(fast_path=kind), **options) for b, r in steps)
    )


PRUNE_AND_MERGE = Schedule(
    steps=(
        Step(block=2, keep_ratio=0.8),
        Step(block=2, keep_ratio=0.5, reducer=Merge()),
        Step(block=5, keep_ratio=0.3, scorer=SpotScorer(), reducer=Fuse()),
        Step(block=7, keep_ratio=0.2, phase="before_ffn"),
    )
)
CASES = {
    "prune": ("deit_pico", tokens(DynamicVitScorer())),
    "before_ffn": ("deit_pico", tokens(DynamicVitScorer(), phase="before_ffn")),
    "fuse": ("deit_pico", tokens(DynamicVitScorer(), reducer=Fuse())),
    "fuse sum": ("deit_pico", tokens(DynamicVitScorer(), reducer=Fuse(normalize=False))),
    "spot": ("deit_pico", tokens(SpotScorer())),
    "spot all": ("deit_pico", tokens(SpotScorer(layers="all", heads="mean"))),
    "several": ("deit_pico", PRUNE_AND_MERGE),
    "nothing dropped": ("deit_pico", tokens(DynamicVitScorer(), ratios=(1.0, 1.0, 0.5))),
    "classless": (classless, tokens(DynamicVitScorer())),
    "lvvit": ("lvvit_pico", tokens(DynamicVitScorer())),
    "convnext": ("convnext_pico", paths()),
    "convnext bottleneck": ("convnext_pico", paths("bottleneck")),
    "convnext nothing dropped": ("convnext_pico", paths(ratios=(1.0, 0.4))),
    "swin": ("swin_pico", paths()),
    "swin identity": ("swin_pico", paths("identity")),
}


def make(case):
    kind, schedule = CASES[case]
    torch.manual_seed(0)
    model = create_model(kind, num_classes=5) if isinstance(kind, str) else kind()
    sparsify_(model, schedule)
    return model.train()


def trained_once(model, *, seed=0, **options):
    model.zero_grad()
    torch.manual_seed(seed)
    logits = model(IMAGES, **options)
    cross_entropy(logits, LABELS).backward()
    return logits.detach(), {name: parameter.grad for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_every_parameter_has_a_gradient(case, checkpointing):
    model = make(case)
    model.set_grad_checkpointing(checkpointing)
    _, gradients = trained_once(model)
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    steps = model.sparsity.state.plan.steps
    taught = {step.scorer for step in steps if step.learned and step.num_kept < step.num_alive}
    if case == "several":
        taught -= {"0_7_ffn"}  # patch tokens after the last attention do not reach the class token
    assert taught
    for name in taught:
        predictor = model.sparsity.predictors[name]
        for key, parameter in predictor.named_parameters():
            assert parameter.grad.abs().max() > 0 or key == "out_conv.4.bias", (name, key)  # it moves all scores alike
    for name, path in model.sparsity.fast_paths.items():
        if (1, int(name.split("_")[1])) in {block for block, _ in model.sparsity.state.plan.fast_paths}:
            assert all(parameter.grad.abs().max() > 0 for parameter in path.parameters()), name


@pytest.mark.parametrize("case", ["prune", "classless", "convnext", "swin"])
def test_only_the_gradient_of_the_scorers_differs_from_that_of_a_call_of_its_own(case):
    """Logits are the same, and no teaching takes place unless it is asked for."""
    model = make(case)
    plain, gradients = trained_once(model)
    logits, own = trained_once(model, call=new_call(model))
    assert torch.equal(logits, plain)
    assert {name.split(".")[0] for name, gradient in own.items() if gradient is None} == {"sparsity"}
    again, taught = trained_once(model, call=new_call(model, teach=True))
    assert torch.equal(again, plain)
    for name, gradient in taught.items():
        assert torch.equal(gradient, gradients[name]), name


def test_checkpointing_changes_no_gradient():
    model = make("prune")
    plain, gradients = trained_once(model)
    model.set_grad_checkpointing(True)
    again, checkpointed = trained_once(model)
    assert torch.equal(again, plain)
    for name, gradient in gradients.items():
        torch.testing.assert_close(checkpointed[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_what_is_attached_and_not_in_the_schedule_gets_a_gradient_of_zero():
    model = create_model("deit_pico", num_classes=5)
    attach_(model, [(0, 2), (0, 4, "before_block", SpotScorer(layers=2)), (0, 6)])
    set_schedule_(model, Schedule.at([2], [0.5]))
    _, gradients = trained_once(model.train())
    assert all(gradient is not None for gradient in gradients.values())
    assert {name.split(".")[2] for name, g in gradients.items() if "predictors" in name and g.abs().max()} == {"0_2"}


def test_scorers_without_parameters_train_as_before():
    model = create_model("deit_pico", num_classes=5)
    sparsify_(model, tokens(ClassAttentionScorer()))
    logits, gradients = trained_once(model.train())
    again, expected = trained_once(model, call=new_call(model))
    assert torch.equal(again, logits)
    assert all(torch.equal(gradient, gradients[name]) for name, gradient in expected.items())


def test_noise_is_what_was_asked_for_and_evaluation_has_none():
    model = make("prune")
    assert torch.equal(model(IMAGES), model(IMAGES))
    model.sparsity.state.noise = 0.3
    assert not torch.equal(model(IMAGES), model(IMAGES))
    model.eval()
    assert torch.equal(model(IMAGES), model(IMAGES))


@pytest.mark.parametrize("case", ["prune", "convnext"])
def test_scorers_learn_to_rank_by_saliency_for_the_loss(case):
    """On one batch and a frozen backbone the scores come closer to the saliency, with no loss but cross-entropy.

    With noise, so that all tokens are tried.
    """
    model = make(case)
    model.sparsity.state.noise = 0.3
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("sparsity.predictors"))
    for module in model.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()
    before = copy.deepcopy(model)
    optimizer = torch.optim.AdamW(model.sparsity.predictors.parameters(), lr=1e-2)
    for _ in range(30):
        optimizer.zero_grad()
        cross_entropy(model(IMAGES), LABELS).backward()
        optimizer.step()
    assert mean_divergence(model) < 0.9 * mean_divergence(before)


def mean_divergence(model):
    """KL(saliency || softmax of scores) of the first step, all tokens kept, from gradients computed apart."""
    step = model.sparsity.state.plan.steps[0]
    dense = copy.deepcopy(model)
    set_schedule_(dense, Schedule())
    entering = []

    def watch(module, args, kwargs):
        entering.append(args[0].detach().requires_grad_())
        return (entering[-1], *args[1:]), kwargs

    stage = dense.stages[step.stage].blocks if hasattr(dense, "stages") else dense.blocks
    stage[step.location[1]].register_forward_pre_hook(watch, with_kwargs=True)
    cross_entropy(dense(IMAGES), LABELS).backward()
    product = entering[0] * entering[0].grad
    saliency = product.sum(1).flatten(1) if hasattr(dense, "stages") else product.sum(-1)[:, 1:]
    target = saliency.abs() / saliency.abs().sum(1, keepdim=True)
    call = new_call(model)
    with torch.no_grad():
        model(IMAGES, call=call)
    score = call.trace.steps[0].score_BN
    return torch.nn.functional.kl_div(score.log_softmax(1), target, reduction="batchmean").item()


@pytest.mark.slow
@pytest.mark.parametrize("case", ["prune", "convnext"])
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_training_step(case):
    model = make(case)
    model.sparsity.state.record = False
    expected, gradients = trained_once(model)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    model.zero_grad()
    torch.manual_seed(0)
    logits = compiled(IMAGES)
    cross_entropy(logits, LABELS).backward()
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-3, atol=1e-6, msg=name)

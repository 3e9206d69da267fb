"""A sparse model is a function of weights, plan and input: calls do not affect each other."""

import copy
import pickle
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import timm
import torch

from sparsesearch.backbones.calls import new_call, trace_of
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.segments import PrefixState, advance, complete, embed
from sparsesearch.backbones.transforms import restore_, sparsify_
from sparsesearch.errors import BackboneError
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Fuse,
    KeyNormScorer,
    Merge,
    NormScorer,
    RandomScorer,
    SpotScorer,
)

NUM_THREADS, NUM_CALLS = 8, 25
SCORERS = [
    DynamicVitScorer(),
    SpotScorer(),
    SpotScorer(layers="all"),
    ClassAttentionScorer(),
    KeyNormScorer(),
    NormScorer(),
    RandomScorer(seed=2),
]


def tokens(scorer, *, phase="before_block", reducer=None):
    """Three steps of one kind."""
    extra = {} if reducer is None else {"reducer": reducer}
    return Schedule(
        steps=tuple(
            Step(block=block, phase=phase, keep_ratio=ratio, scorer=scorer, **extra)
            for block, ratio in ((2, 0.7), (4, 0.5), (6, 0.3))
        )
    )


def paths(kind, *, stage, scorer=None):
    return Schedule(
        steps=tuple(
            Step(
                stage=stage,
                block=block,
                keep_ratio=ratio,
                reducer=FastSlow(fast_path=kind),
                scorer=scorer or SCORERS[0],
            )
            for block, ratio in ((1, 0.7), (2, 0.4))
        )
    )


def rotary():
    return timm.create_model(
        "eva02_tiny_patch14_224", img_size=84, depth=8, embed_dim=48, num_heads=3, num_classes=5, in_chans=1
    )


def pooled(**options):
    return timm.create_model(
        "vit_little_patch16_reg1_gap_256",
        img_size=128,
        depth=8,
        embed_dim=48,
        num_heads=3,
        num_classes=5,
        in_chans=1,
        **options,
    )


CASES = {f"deit {index}": ("deit_pico", tokens(scorer)) for index, scorer in enumerate(SCORERS)}
CASES |= {
    "before_ffn": ("deit_pico", tokens(ClassAttentionScorer(), phase="before_ffn")),
    "fuse": ("deit_pico", tokens(ClassAttentionScorer(), reducer=Fuse())),
    "fuse learned": ("deit_pico", tokens(DynamicVitScorer(), reducer=Fuse(normalize=False))),
    "merge": ("deit_pico", tokens(None, reducer=Merge())),
    "merge tokens": ("deit_pico", tokens(None, reducer=Merge(metric="tokens", proportional_attention=False))),
    "lvvit": ("lvvit_pico", tokens(DynamicVitScorer())),
    "rotary": (rotary, tokens(RandomScorer())),
    "rotary merge": (rotary, tokens(None, reducer=Merge())),
    "average pool merge": (pooled, tokens(None, reducer=Merge())),
    "attention pool merge": (
        lambda: pooled(global_pool="map", fc_norm=False),
        tokens(None, reducer=Merge(), phase="before_ffn"),
    ),
    "convnext": ("convnext_pico", paths("linear", stage=1)),
    "convnext norm": ("convnext_pico", paths("bottleneck", stage=1, scorer=NormScorer())),
    "convnext random": ("convnext_pico", paths("identity", stage=1, scorer=RandomScorer())),
    "swin": ("swin_pico", paths("linear", stage=1)),
    "swin random": ("swin_pico", paths("identity", stage=1, scorer=RandomScorer())),
}


def make(case):
    kind, schedule = CASES[case]
    torch.manual_seed(0)
    model = create_model(kind) if isinstance(kind, str) else kind()
    sparsify_(model, schedule)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    size = model.patch_embed.img_size if hasattr(model, "patch_embed") else (32, 32)
    images = torch.randn(NUM_THREADS, 2, 1, *size, generator=generator)
    return model.eval(), images


def logits_of(model, images):
    return model(images)


def ask(models, images, *, read=logits_of, num_calls=NUM_CALLS):
    """Results of one thread per image at once, `num_calls` each; of one shared model, or of a list of replicas."""
    models = models if isinstance(models, list) else [models] * len(images)
    ready = Barrier(len(images))

    def work(model, own):
        ready.wait()
        with torch.no_grad():
            return [read(model, own) for _ in range(num_calls)]

    with ThreadPoolExecutor(len(images)) as pool:
        return list(pool.map(work, models, images))


@pytest.mark.parametrize("case", CASES)
def test_threads_get_the_logits_that_they_get_alone(case):
    model, images = make(case)
    with torch.no_grad():
        alone = [model(own) for own in images]
        assert all(torch.equal(model(own), logits) for own, logits in zip(images, alone, strict=True))
    assert not torch.equal(alone[0], alone[1])
    for expected, found in zip(alone, ask(model, images), strict=True):
        assert sum(not torch.equal(logits, expected) for logits in found) == 0


@pytest.mark.parametrize("case", ["deit 0", "deit 3", "merge", "lvvit", "convnext", "swin"])
def test_replicas_in_threads(case):
    model, images = make(case)
    with torch.no_grad():
        alone = [model(own) for own in images]
    for expected, found in zip(alone, ask([replica_of(model) for _ in images], images), strict=True):
        assert all(torch.equal(logits, expected) for logits in found)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("case", "backend"),
    [
        ("deit 3", "inductor"),
        *((case, "aot_eager") for case in ("deit 6", "merge", "convnext", "swin")),
        *(pytest.param(case, "aot_eager", marks=pytest.mark.long) for case in ("deit 1", "fuse", "lvvit", "rotary")),
    ],
)
def test_threads_share_a_compiled_model(case, backend):
    model, images = make(case)
    compiled = torch.compile(model, backend=backend)
    with torch.no_grad():
        alone = [compiled(own) for own in images]
        torch.testing.assert_close(alone[0], model(images[0]), rtol=0, atol=1e-4)
    assert not torch.equal(alone[0], alone[1])
    for expected, found in zip(alone, ask(compiled, images), strict=True):
        assert all(torch.equal(logits, expected) for logits in found)


@pytest.mark.parametrize("case", ["deit 3", "merge", "convnext", "swin"])
def test_each_call_has_its_own_trace(case):
    model, images = make(case)
    read = lambda model, own: trace_of(model, own)[1].steps  # noqa: E731
    with torch.no_grad():
        alone = [read(model, own) for own in images]
    assert len(alone[0]) == len(model.sparsity.schedule.steps)
    for expected, calls in zip(alone, ask(model, images, read=read), strict=True):
        for steps in calls:
            assert [step.name for step in steps] == [step.name for step in expected]
            assert all(torch.equal(a.kept_BK, b.kept_BK) for a, b in zip(steps, expected, strict=True))


@pytest.mark.parametrize("mode", ["gather", "masked"])
@pytest.mark.parametrize("case", ["deit 0", "convnext", "swin"])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_training_steps_in_threads(case, mode, checkpointing):
    """Each call brings its generator; with gradient checkpointing, blocks run again in the threads of the backward."""
    model, images = make(case)
    model.train().set_grad_checkpointing(checkpointing)
    for module in model.modules():  # stochastic depth and running statistics are the model's own
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.eval()

    def read(model, own):
        with torch.enable_grad():
            own = own.clone().requires_grad_()
            call = new_call(model, generator=torch.Generator().manual_seed(7), mode=mode, noise=0.5)
            loss = model(own, call=call).square().sum()
            return loss.detach(), torch.autograd.grad(loss, own)[0]

    images = images[:4]
    alone = [read(model, own) for own in images]
    for expected, found in zip(alone, ask(model, images, read=read, num_calls=8), strict=True):
        assert all(torch.equal(a, b) for pair in found for a, b in zip(pair, expected, strict=True))


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_copies_work_on_their_own(case):
    model, images = make(case)
    expected = model(images[0])
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), replica_of(model)]
    model.sparsity.predictors.requires_grad_(False)
    for copied in copies:
        assert type(copied) is type(model)
        assert torch.equal(copied(images[0]), expected)
    for parameter in model.parameters():
        parameter.zero_()
    for copied in copies[:2]:
        assert torch.equal(copied(images[0]), expected)
        restore_(copied)
        assert "sparsity" not in dict(copied.named_children())


def replica_of(model):
    """As torch.nn.DataParallel makes replicas, with copies of the parameters."""
    replicas = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, replica in replicas.items():
        for name, child in module._modules.items():
            replica._modules[name] = replicas.get(child)
        for name, parameter in module._parameters.items():
            replica._parameters[name] = None if parameter is None else parameter.clone()
        for name, buffer in module._buffers.items():
            replica._buffers[name] = None if buffer is None else buffer.clone()
    return replicas[model]


@torch.no_grad()
def test_a_replica_scores_with_its_own_predictors():
    model, images = make("deit 0")
    replica = replica_of(model)
    expected = replica(images[0])
    for parameter in model.sparsity.predictors.parameters():
        parameter.zero_()
    assert torch.equal(replica(images[0]), expected)


def test_a_copy_of_a_model_with_a_recorded_training_pass():
    model, images = make("deit 0")
    model.train()(images[0])
    assert model.sparsity.state.trace.steps[0].scores_BN2.grad_fn is not None
    for copied in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert copied.sparsity.state.trace.steps == []
        assert copied.sparsity.state.plan == model.sparsity.state.plan


@torch.no_grad()
def test_a_recorded_trace_stays_as_it_was():
    model, images = make("deit 3")
    model(images[0])
    kept, steps = model.sparsity.state.trace, list(model.sparsity.state.trace.steps)
    model(images[1])
    assert kept.steps == steps
    assert model.sparsity.state.trace is not kept


@torch.no_grad()
def test_options_of_one_call_do_not_remain():
    model, images = make("deit 0")
    _, trace = trace_of(model, images[0], keep_groups=True, keep_final_tokens=True)
    assert trace.steps[-1].groups_BN is not None
    assert trace.final_tokens_BNC is not None
    assert not model.sparsity.state.keep_groups
    _, trace = trace_of(model, images[0])
    assert trace.steps[-1].groups_BN is None
    assert trace.final_tokens_BNC is None
    with pytest.raises(BackboneError, match="invalid mode 'mask'"):
        new_call(model, mode="mask")


@torch.no_grad()
def test_a_prefix_state_serves_several_threads():
    model, images = make("deit 3")
    prefix_states = [advance(model, PrefixState(embed(model, own)), 0, 5) for own in images]
    expected = [model(own) for own in images]

    def read(model, own):
        index = next(i for i, other in enumerate(images) if torch.equal(own, other))
        return complete(model, prefix_states[index], 5)

    for logits, found in zip(expected, ask(model, images, read=read), strict=True):
        assert all(torch.equal(each, logits) for each in found)


@torch.no_grad()
def test_hooks_of_blocks_stages_and_containers_run():
    for case, containers in (("deit 3", ["blocks"]), ("convnext", ["stages", "stages.1", "stages.1.blocks"])):
        model, images = make(case)
        expected, seen = model(images[0]), []
        names = [name for name, module in model.named_modules() if hasattr(module, "sparsity_block")] + containers
        hooks = [
            model.get_submodule(name).register_forward_hook(lambda _m, _a, _y, name=name, seen=seen: seen.append(name))
            for name in names
        ]
        assert torch.equal(model(images[0]), expected)
        assert sorted(seen) == sorted(names)
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def test_intermediate_features_of_timm():
    model, images = make("deit 3")
    final, features = model.forward_intermediates(images[0], output_fmt="NLC")
    assert [each.shape[1] for each in features] == [64] * 8
    assert final.shape[1] == 20
    assert torch.equal(model.forward_head(final), model(images[0]))
    for case, sides in (("convnext", [16, 8, 4, 2]), ("swin", [16, 8, 4])):
        model, images = make(case)
        final, features = model.forward_intermediates(images[0])
        assert [each.shape[2] for each in features] == sides
        assert torch.equal(model.forward_head(final), model(images[0]))


@torch.no_grad()
def test_features_and_head_apart_need_the_call_where_tokens_have_weights():
    model, images = make("average pool merge")
    with pytest.raises(BackboneError, match="call=new_call"):
        model.forward_head(model.forward_features(images[0]))
    call = new_call(model)
    assert torch.equal(model.forward_head(model.forward_features(images[0], call=call), call=call), model(images[0]))
    model, images = make("deit 0")
    assert torch.equal(model.forward_head(model.forward_features(images[0])), model(images[0]))


def test_a_model_with_a_forward_of_its_own_is_refused():
    class Own(timm.models.vision_transformer.VisionTransformer):
        def forward_features(self, x, attn_mask=None, is_causal=False):
            return super().forward_features(x)

    model = Own(img_size=64, depth=2, embed_dim=48, num_heads=3)
    with pytest.raises(BackboneError, match="Own overrides forward_features"):
        sparsify_(model, Schedule.at([1], [0.5]))
    assert type(model) is Own
    assert all(not hasattr(type(module), "sparsity_base") for module in model.modules())

"""Every family, scorer, reduction and training method computes on the device of its model, and waits for nothing."""

import pytest
import timm
import torch
from fake_gpu import GPU, FakeGpuArithmetic, TwoDevicesError, fake_gpu

from sparsesearch.backbones.registry import create_model, geometry
from sparsesearch.backbones.transforms import attach_, sparsify_
from sparsesearch.data.task import Batch
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Fuse,
    KeyNormScorer,
    Merge,
    NormScorer,
    Prune,
    RandomScorer,
    SpotScorer,
)
from sparsesearch.space.definition import SearchSpace
from sparsesearch.sparsify.draws import Draws
from sparsesearch.training.masked import MaskedObjective
from sparsesearch.training.objectives import DenseObjective, SparseObjective, SupernetObjective
from sparsesearch.training.scoring import PrefixCachedScorer
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.training_step import TrainingStep

CLASSES = {"num_classes": 5}
SMALL = {"img_size": 32, "patch_size": 4, "embed_dim": 24, "depth": 4, "num_heads": 2, **CLASSES}
MODELS = {
    "vit": lambda: timm.create_model("vit_tiny_patch16_224", **SMALL),
    "no class token": lambda: timm.create_model("vit_tiny_patch16_224", class_token=False, global_pool="avg", **SMALL),
    "distilled": lambda: timm.create_model("deit_tiny_distilled_patch16_224", **SMALL),
    "rotary": lambda: timm.create_model("eva02_tiny_patch14_224", **SMALL),
    "lvvit": lambda: create_model("lvvit_pico", in_chans=3, **CLASSES),
    "convnext": lambda: create_model("convnext_pico", in_chans=3, **CLASSES),
    "swin": lambda: create_model("swin_pico", in_chans=3, **CLASSES),
}
GRIDS = ("convnext", "swin")
BFLOAT16 = FakeGpuArithmetic(GPU, torch.bfloat16)

LEARNED = [(Prune(), DynamicVitScorer()), (Prune(), SpotScorer()), (Prune(), SpotScorer(heads="mean", detach=False))]
CONTROLS = [(Prune(), scorer) for scorer in (KeyNormScorer(), NormScorer(), RandomScorer(), ClassAttentionScorer())]
REDUCTIONS = [
    (Merge(), None),
    (Fuse(), DynamicVitScorer()),
    (Merge(metric="tokens", proportional_attention=False), None),
    (Fuse(normalize=False), NormScorer()),
    (Prune(), RandomScorer()),
]
PATHS = [
    (FastSlow(fast_path="linear"), DynamicVitScorer()),
    (FastSlow(fast_path="bottleneck"), NormScorer()),
    (FastSlow(fast_path="identity"), RandomScorer()),
]


def schedule_of(kind, methods):
    """A schedule with a method at each location after the first block."""
    stage = geometry(MODELS[kind](), kind).deepest_stage
    phases = ("before_block",) if kind in GRIDS else ("before_block", "before_ffn")
    locations = [(block, phase) for block in range(1, 4) for phase in phases]
    steps = [
        Step(stage=stage, block=block, phase=phase, keep_ratio=0.9**number, reducer=reducer, scorer=scorer)
        for number, ((block, phase), (reducer, scorer)) in enumerate(zip(locations, methods, strict=False), 1)
    ]
    return Schedule(steps=tuple(steps))


def methods_of(kind):
    if kind in GRIDS:
        return [PATHS]
    return [[*LEARNED[1:], *(CONTROLS[:-1] if kind == "no class token" else CONTROLS)], REDUCTIONS]


CASES = [(kind, index) for kind in MODELS for index in range(len(methods_of(kind)))]


def sparse_model(kind, schedule):
    model = MODELS[kind]()
    sparsify_(model, schedule)
    return model


def a_batch(**more):
    labels = torch.zeros(4, dtype=torch.int64, device=GPU)
    return Batch(images=torch.empty(4, 3, 32, 32, device=GPU), labels=labels, **more)


@pytest.fixture(autouse=True)
def _shapes_of_gradients(monkeypatch):
    """The fake GPU computes no gradients: they have the shape of what they are taken of."""
    monkeypatch.setattr(torch.autograd, "grad", lambda output, inputs: [torch.empty_like(x) for x in inputs])


@pytest.mark.filterwarnings("ignore:Accessing the data pointer of FakeTensor")
@pytest.mark.parametrize(("kind", "index"), CASES)
def test_forward_and_scoring(kind, index):
    schedule = schedule_of(kind, methods_of(kind)[index])
    model = sparse_model(kind, schedule)
    with fake_gpu(model):
        with BFLOAT16.autocast():
            assert model.train()(a_batch().images).device == GPU
        scorer = PrefixCachedScorer(model, lambda: [a_batch()], arithmetic=BFLOAT16)
        with pytest.raises(TwoDevicesError) as caught:
            scorer.score(schedule)
    assert "metrics" in [entry.name for entry in caught.traceback], "something is read before all images are scored"


@pytest.mark.parametrize("kind", MODELS)
def test_losses(kind):
    schedule = schedule_of(kind, PATHS if kind in GRIDS else LEARNED)
    model, dense = sparse_model(kind, schedule).train(), MODELS[kind]()
    step = TrainingStep(0, Draws(0))
    with fake_gpu(model, dense):
        teacher = Teacher(dense, None, arithmetic=BFLOAT16, use_pool=False)
        for objective in (SparseObjective, MaskedObjective):
            loss = objective(model, teacher, arithmetic=BFLOAT16)(a_batch(), step)
            assert (loss.device, loss.shape, loss.dtype) == (GPU, (), torch.float32)
        assert MaskedObjective(model, teacher, arithmetic=BFLOAT16).count(a_batch(), step).device == GPU


def whole_space(kind):
    """A space of everything that the family supports."""
    reducers = [path for path, _ in PATHS] if kind in GRIDS else [Prune(), Fuse(), Merge()]
    scorers = [DynamicVitScorer(), NormScorer(), *([] if kind in GRIDS else [SpotScorer(layers=1)])]
    space = SearchSpace(reducers=reducers, scorers=scorers, max_predictors=2, methods_per="location")
    return space.resolve(geometry(MODELS[kind](), kind))


@pytest.mark.parametrize("kind", ["vit", "swin"])
def test_supernet_loss(kind):
    space, model, dense = whole_space(kind), MODELS[kind](), MODELS[kind]()
    shape = geometry(model, kind)
    attach_(
        model,
        [
            (*location, method.phase, method.scorer, method.reducer)
            for location in space.locations
            for method in space.methods
            if method.is_possible_at(location)
        ],
    )
    with fake_gpu(model.train(), dense):
        teacher = Teacher(dense, None, arithmetic=BFLOAT16, use_pool=False)
        objective = SupernetObjective(model, teacher, space=space, geometry=shape, arithmetic=BFLOAT16)
        for number in range(2):
            assert objective(a_batch(), TrainingStep(number, Draws(number))).device == GPU


@pytest.mark.parametrize("kind", ["vit", "convnext"])
def test_dense_loss_with_windows(kind):
    model = MODELS[kind]()
    shape = geometry(model, kind)
    with fake_gpu(model.train()):
        objective = DenseObjective(model, shape, curriculum_steps=1, arithmetic=BFLOAT16)
        for number in range(2):
            batch = a_batch(boxes=torch.empty(4, 4, device=GPU))
            assert objective(batch, TrainingStep(number, Draws(number))).device == GPU


class WithConstant(torch.nn.Module):
    """Adds a constant that is no buffer, so that it stays on the CPU."""

    def __init__(self, *, copies):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(3))
        self.copies = copies

    def forward(self, x):
        constant = torch.arange(3.0)
        return x * self.weight + (constant.to(x.device) if self.copies else constant)


@pytest.mark.parametrize("copies", [False, True])
def test_a_constant_on_the_cpu_is_found(copies):
    model = WithConstant(copies=copies)
    model(torch.ones(3))
    with fake_gpu(model), pytest.raises((TwoDevicesError, RuntimeError)) as caught:
        model(torch.empty(3, device=GPU))
    assert "cpu" in str(caught.value)
    assert "cuda:0" in str(caught.value)

"""Scores from kept activations are those of the whole model, to the last bit, whatever family, scorer and reducer."""

import weakref

import pytest
import torch

from sparsesearch.backbones.registry import BUNDLED, backbone_geometry
from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.backbones.transforms import attach_, set_schedule_
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import task_geometry
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
from sparsesearch.training import scoring
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.kinds import TrainingContext
from sparsesearch.training.prefix_cache import PrefixCache
from sparsesearch.training.scoring import EVAL_BATCH, Accumulator, PrefixCachedScorer, eval_batch, evaluate_model

FLOAT32 = Arithmetic(torch.device("cpu"), torch.float32)
SCORERS = (
    DynamicVitScorer(),
    SpotScorer(layers=2),
    SpotScorer(layers="all", heads="mean"),
    ClassAttentionScorer(),
    KeyNormScorer(),
    NormScorer(),
    RandomScorer(),
)


def step(block, keep, scorer=None, reducer=None, phase="before_block", stage=0):
    reducer = reducer or Prune()
    if scorer is None and not isinstance(reducer, Merge):
        scorer = DynamicVitScorer()
    return Step(stage=stage, block=block, phase=phase, keep_ratio=keep, scorer=scorer, reducer=reducer)


def token_schedules():
    """Every scorer with every reducer in both phases, alone and one behind another."""
    made = [Schedule()]
    for reducer in (Prune(), Fuse()):
        for scorer in SCORERS:
            for phase in ("before_block", "before_ffn"):
                made.append(
                    Schedule(steps=(step(3, 0.5, scorer, reducer, phase), step(5, 0.2, scorer, reducer, phase)))
                )
    for metric in ("keys", "tokens"):
        for phase in ("before_block", "before_ffn"):
            one, two = step(3, 0.6, reducer=Merge(metric=metric), phase=phase), step(5, 0.2)
            made += [Schedule(steps=(one, two)), Schedule(steps=(step(2, 0.9, NormScorer()), one, two))]
    made.append(Schedule(steps=(step(3, 0.6, KeyNormScorer()), step(3, 0.4, reducer=Merge()))))
    made.append(Schedule(steps=(step(1, 0.8, ClassAttentionScorer()), step(7, 0.1, SpotScorer(layers=2)))))
    return made


def grid_schedules(stages):
    made = [Schedule()]
    for path in ("linear", "bottleneck", "identity"):
        for scorer in (DynamicVitScorer(), NormScorer(), RandomScorer()):
            reducer = FastSlow(fast_path=path)
            made += [Schedule(steps=(step(block, 0.3, scorer, reducer, stage=1),)) for block in (0, 2)]
            made.append(
                Schedule(steps=(step(1, 0.4, scorer, reducer, stage=1), step(3, 0.7, scorer, reducer, stage=1)))
            )
            last = stages - 1
            made.append(Schedule(steps=(step(0, 0.6, scorer, reducer), step(0, 0.5, scorer, reducer, stage=last))))
    return made


def attached(context, schedules):
    """The model with everything that the schedules need, and every weight and statistic away from its start."""
    model = context.fresh_model()
    steps = [step for schedule in schedules for step in schedule.resolve(context.geometry)]
    attach_(model, [(s.stage, s.block, s.phase, s.scorer, s.reducer, s.num_layers) for s in steps])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


@pytest.fixture(scope="module", params=["deit_pico", "lvvit_pico", "convnext_pico", "swin_pico"])
def case(request):
    task = DigitsTask(image_size=32, in_chans=1, num_val_images=24)
    batches = list(task.val("screen", batch_size=14))
    context = TrainingContext(request.param, task_geometry(request.param, task), task, FLOAT32, seed=0)
    is_grid = context.geometry.stages[0].mixer != "attention"
    schedules = grid_schedules(len(context.geometry.stages)) if is_grid else token_schedules()
    model = attached(context, schedules)
    expected = []
    for schedule in schedules:
        set_schedule_(model, schedule)
        expected.append(evaluate_model(model, batches, arithmetic=FLOAT32).metrics("val"))
    return model, batches, schedules, expected


@pytest.mark.parametrize("max_bytes", [0, 1_500_000, 2_000_000_000])
def test_scores_are_those_of_the_whole_model_to_the_last_bit(case, max_bytes):
    """However little fits the memory, and whatever was scored before."""
    model, batches, schedules, expected = case
    scorer = PrefixCachedScorer(model, lambda: batches, arithmetic=FLOAT32, max_bytes=max_bytes)
    found = [scorer.score(schedule) for schedule in [*schedules, *reversed(schedules)]]
    assert sum(cache.num_bytes for cache, _ in scorer._kept) <= max_bytes
    assert found == expected + expected[::-1]
    assert len({metrics["val_loss"] for metrics in expected}) > 0.9 * len(schedules)


@pytest.mark.parametrize(("keeps_images", "max_bytes"), [(True, 2_000_000_000), (False, 0), (False, 400_000)])
def test_scores_of_one_pass_are_those_of_each_schedule_alone(case, keeps_images, max_bytes):
    """Also where the images are read again for every pass, and held a batch at a time."""
    model, batches, schedules, expected = case
    passes = []

    def read():
        passes.append(0)
        for batch in batches:
            passes[-1] += 1
            yield batch

    scorer = PrefixCachedScorer(model, read, arithmetic=FLOAT32, keeps_images=keeps_images, max_bytes=max_bytes)
    half = len(schedules) // 2
    found = scorer.score_all(schedules[:half]) | scorer.score_all(schedules[half:])
    assert [found[schedule].metrics("val") for schedule in schedules] == expected
    assert scorer.score(schedules[-1]) == expected[-1]
    assert passes == [len(batches)] * (1 if keeps_images else 3)
    assert len(batches) > 1


def test_a_pass_holds_the_states_of_one_batch(case, monkeypatch):
    model, batches, schedules, _ = case
    alive = weakref.WeakSet()
    counts, sizes = [], []

    class Watched(PrefixCache):
        def __init__(self, *args, **options):
            super().__init__(*args, **options)
            alive.add(self)

        def logits(self, route):
            logits = super().logits(route)
            counts.append(len(alive))
            sizes.append(self.num_bytes)
            return logits

    monkeypatch.setattr(scoring, "PrefixCache", Watched)
    max_bytes = 400_000
    PrefixCachedScorer(model, lambda: batches, arithmetic=FLOAT32, keeps_images=False, max_bytes=max_bytes).score_all(
        schedules
    )
    assert set(counts) == {1}
    assert 0 < max(sizes) <= max_bytes


def test_a_schedule_that_raises_is_left_out_of_a_pass_and_raises_alone(case):
    model, batches, schedules, expected = case
    scorer = PrefixCachedScorer(model, lambda: batches, arithmetic=FLOAT32, keeps_images=False)

    def hook(block, *_):
        if sparsity_of(model).schedule == schedules[1]:
            raise RuntimeError("it broke")

    handle = _blocks(model)[-1].register_forward_pre_hook(hook)
    try:
        found = {schedule: one.metrics("val") for schedule, one in scorer.score_all(schedules[:3]).items()}
        assert found == {schedules[0]: expected[0], schedules[2]: expected[2]}
        with pytest.raises(RuntimeError, match="it broke"):
            scorer.score(schedules[1])
    finally:
        handle.remove()


def test_what_is_kept_is_not_run_again(case):
    model, batches, schedules, _ = case
    scorer = PrefixCachedScorer(model, lambda: batches, arithmetic=FLOAT32)
    late = max(schedules, key=lambda schedule: [s.location for s in schedule.steps][:1])
    scorer.score(late)
    ran = []
    blocks = _blocks(model)
    hooks = [block.register_forward_hook(lambda block, *_: ran.append(block)) for block in blocks]
    scorer.score(late)
    for hook in hooks:
        hook.remove()
    stages = sparsity_of(model).geometry.stages
    places = [sum(s.depth for s in stages[: step.stage]) + step.block for step in late.steps]
    start = places[1] if len(places) > 1 else len(blocks) - 1
    assert start > 0
    assert ran == len(batches) * blocks[start:]


def _blocks(model):
    parts = getattr(model, "stages", None) or getattr(model, "layers", None)
    return list(model.blocks) if parts is None else [block for part in parts for block in part.blocks]


def test_metrics_are_counted_by_hand():
    accumulator = Accumulator()
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    accumulator.add(logits, torch.tensor([0, 1, 1]))
    accumulator.add(logits[:1], torch.tensor([1]))
    right, wrong = 0.1269280110429725, 2.1269280110429727  # ln(1 + e^-2), ln(1 + e^2)
    assert accumulator.correct.tolist() == [True, True, False, False]
    assert accumulator.metrics("test") == {
        "test_top1": 0.5,
        "test_loss": pytest.approx((2 * right + 2 * wrong) / 4),
        "test_images": 4.0,
    }


def test_the_batch_of_an_evaluation_follows_the_model():
    assert {eval_batch(backbone_geometry(name)) for name in supported_small()} == {EVAL_BATCH}
    sizes = [eval_batch(backbone_geometry("deit_b", image_size=pixels)) for pixels in (224, 384, 1024, 4096)]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] == EVAL_BATCH
    assert sizes[-1] == 1
    assert all(size % 8 == 0 for size in sizes if size > 8)


def supported_small():
    return [name for name in BUNDLED if BUNDLED[name].is_small]


class LimitedMemory(torch.nn.Module):
    """A model that can take so many images at a time."""

    def __init__(self, most, error):
        super().__init__()
        self.most, self.error, self.taken = most, error, []

    def forward(self, images):
        if len(images) > self.most:
            raise self.error
        self.taken.append(len(images))
        return images.flatten(1)[:, :10]


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_a_batch_is_halved_where_memory_is_short(error):
    images = torch.randn(11, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    batch = Batch(images, images.flatten(1)[:, :10].argmax(-1))
    model = LimitedMemory(3, error)
    assert evaluate_model(model, [batch], arithmetic=FLOAT32).metrics("val")["val_top1"] == 1.0
    assert sum(model.taken) == 11
    assert max(model.taken) <= 3
    with pytest.raises(RuntimeError):
        evaluate_model(LimitedMemory(0, error), [batch], arithmetic=FLOAT32)
    with pytest.raises(RuntimeError, match="another"):
        evaluate_model(LimitedMemory(3, RuntimeError("another")), [batch], arithmetic=FLOAT32)

"""Scores from kept activations are those of the whole model, to the last bit, whatever family, scorer and reducer."""

import pytest
import torch

from sparsesearch.backbones.verbs import attach_, set_schedule_
from sparsesearch.evaluate.inputs import task_geometry
from sparsesearch.evaluate.phases import Setting
from sparsesearch.evaluate.scoring import PrefixCachedScorer, Tally, evaluate_model
from sparsesearch.evaluate.training import Arithmetic
from sparsesearch.methods import (
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
from sparsesearch.schedule import Schedule, Step

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
                made.append(Schedule(steps=(step(3, 0.5, scorer, reducer, phase), step(5, 0.2, scorer, reducer, phase))))
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
            made.append(
                Schedule(steps=(step(0, 0.6, scorer, reducer), step(0, 0.5, scorer, reducer, stage=last)))
            )
    return made


def attached(setting, schedules):
    """The model with everything that the schedules need, and every weight and statistic away from its start."""
    model = setting.fresh_model()
    steps = [step for schedule in schedules for step in schedule.resolve(setting.geometry)]
    attach_(model, [(s.stage, s.block, s.phase, s.scorer, s.reducer, s.num_layers) for s in steps])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return model


def whole(model, schedule, setting):
    set_schedule_(model, schedule)
    return evaluate_model(model, setting.task.val("screen", batch_size=40), arithmetic=setting.arithmetic).metrics("val")


def open_(backbone, task):
    setting = Setting(backbone, task_geometry(backbone, task), task, FLOAT32, seed=0)
    if setting.geometry.stages[0].mixer == "attention":
        return setting, token_schedules()
    return setting, grid_schedules(len(setting.geometry.stages))


@pytest.fixture(scope="module", params=["deit_pico", "lvvit_pico", "convnext_pico", "swin_pico"])
def case(request, task):
    setting, schedules = open_(request.param, task)
    model = attached(setting, schedules)
    return setting, model, schedules, [whole(model, schedule, setting) for schedule in schedules]


@pytest.mark.parametrize("max_bytes", [0, 6_000_000, 2_000_000_000])
def test_scores_are_those_of_the_whole_model_to_the_last_bit(case, max_bytes):
    """However little fits the memory, and whatever was scored before."""
    setting, model, schedules, expected = case
    batches = setting.task.val("screen", batch_size=40)
    scorer = PrefixCachedScorer(model, batches, arithmetic=setting.arithmetic, max_bytes=max_bytes)
    found = [scorer.score(schedule) for schedule in [*schedules, *reversed(schedules)]]
    assert scorer._num_bytes <= max_bytes
    assert found == expected + expected[::-1]
    assert len({metrics["val_loss"] for metrics in expected}) > 0.9 * len(schedules)


def test_what_is_kept_is_not_run_again(case):
    setting, model, schedules, _ = case
    scorer = PrefixCachedScorer(model, setting.task.val("screen", batch_size=40), arithmetic=setting.arithmetic)
    late = max(schedules, key=lambda schedule: [s.location for s in schedule.steps][:1])
    ran = []
    scorer.score(late)
    hooks = [module.register_forward_hook(lambda *_: ran.append(1)) for module in _blocks(model)]
    scorer.score(late)
    for hook in hooks:
        hook.remove()
    first = late.steps[0]
    before = [s.depth for s in setting.geometry.stages][: first.stage]
    total = sum(s.depth for s in setting.geometry.stages)
    assert len(ran) == 3 * (total - sum(before) - first.block)


def _blocks(model):
    parts = getattr(model, "stages", None) or getattr(model, "layers", None)
    return list(model.blocks) if parts is None else [block for part in parts for block in part.blocks]


def test_metrics_are_counted_by_hand():
    tally = Tally()
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0]])
    tally.add(logits, torch.tensor([0, 1, 1]))
    tally.add(logits[:1], torch.tensor([1]))
    right, wrong = 0.1269280110429725, 2.1269280110429727  # ln(1 + e^-2), ln(1 + e^2)
    assert tally.correct.tolist() == [True, True, False, False]
    assert tally.metrics("test") == {
        "test_top1": 0.5,
        "test_loss": pytest.approx((2 * right + 2 * wrong) / 4),
        "test_images": 4.0,
    }

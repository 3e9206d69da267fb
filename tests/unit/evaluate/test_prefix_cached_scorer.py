import pytest
import torch

from sparsesearch.backbones.verbs import set_schedule_
from sparsesearch.evaluate.scoring import PrefixCachedScorer, Tally, evaluate_model
from sparsesearch.methods import NormScorer, RandomScorer
from sparsesearch.schedule import Schedule, Step
from sparsesearch.space.definition import SearchSpace

SPACE = SearchSpace(blocks=(1, 3, 5), max_predictors=3, scorers=({"kind": "dynamicvit"}, NormScorer(), RandomScorer()))
ONE_BLOCK = 96 * (64 + 1) * 48 * 4
SCHEDULES = [
    Schedule(),
    Schedule.at([1], [0.5]),
    Schedule.at([5], [0.1]),
    Schedule.at([3, 5], [0.7, 0.2]),
    Schedule.at([1, 3, 5], [0.8, 0.5, 0.3]),
    Schedule(steps=(Step(block=3, keep_ratio=0.4, scorer=NormScorer()),)),
    Schedule(steps=(Step(block=5, keep_ratio=0.4, scorer=RandomScorer()),)),
]


@pytest.fixture(scope="module")
def model(setting):
    return setting.elastic_model(SPACE)


@pytest.mark.parametrize("kept", [0, 1, 2, 3, 100])
def test_scores_are_those_of_the_whole_model_to_the_last_bit(setting, model, kept):
    """However few blocks fit the memory, and whatever was scored before."""
    scorer = PrefixCachedScorer(
        model,
        setting.task.val("screen", batch_size=40),
        geometry=setting.geometry,
        blocks=SPACE.blocks,
        arithmetic=setting.arithmetic,
        max_bytes=kept * ONE_BLOCK,
    )
    found = [scorer.score(schedule) for schedule in [*SCHEDULES, *reversed(SCHEDULES)]]
    expected = []
    for schedule in SCHEDULES:
        set_schedule_(model, schedule)
        whole = evaluate_model(model, setting.task.val("screen", batch_size=40), arithmetic=setting.arithmetic)
        expected.append(whole.metrics("val"))
    assert found == expected + expected[::-1]
    assert len({metrics["val_loss"] for metrics in expected}) == len(SCHEDULES)


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

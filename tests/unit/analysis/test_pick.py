"""Which schedule of a front is the best, worked out by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from study_views import dense, trial, view_of

from sparsesearch.analysis.describe_front import why_best
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.hits import Hits

# Costs of 40, 30, 29 and 10 % of dense. Of 400 images, the second differs from the first in 6 of one kind and 4 of
# the other, so it is worse by 0.5 points with a standard error of 0.8; the third by 1.5 points, with 0.7.
IMAGES = 400
ACCURACIES = {3: (400, 0.800), 4: (300, 0.795), 5: (290, 0.785), 6: (100, 0.4)}
WRONG = {3: range(320, 400), 4: [*range(314, 320), *range(324, 400)], 5: range(314, 400), 6: range(160, 400)}


def hits_of(wrong: object) -> Hits:
    missed = set(wrong)  # type: ignore[call-overload]
    return Hits.of([number not in missed for number in range(IMAGES)], images="confirm")


def view(*, pick: str = "one-se", is_paired: bool = True) -> StudyView:
    trials = [trial(number, macs, top1, images=float(IMAGES)) for number, (macs, top1) in ACCURACIES.items()]
    found = view_of([dense(), *trials])
    hits = {number: hits_of(wrong) for number, wrong in WRONG.items()} if is_paired else {}
    return replace(found, spec=found.spec.model_copy(update={"pick": pick}), hits=hits)


@pytest.mark.parametrize(("pick", "number"), [("accuracy", 3), ("one-se", 4), ("knee", 5)])
def test_best_by_each_rule(pick: str, number: int) -> None:
    best = view(pick=pick).best
    assert best is not None
    assert best.number == number


def test_why_it_is_the_best() -> None:
    assert why_best(view(pick="accuracy")) == "the most accurate one"
    assert why_best(view()).startswith("the cheapest within one standard error of the most accurate one, 80.00 % at")


def test_without_pairs_the_error_is_that_of_one_sample() -> None:
    """It is 2 points, so that the third is within it as well."""
    best = view(is_paired=False).best
    assert best is not None
    assert best.number == 4, "the third costs as much within 1 % of dense, and is less accurate"


def test_equal_costs_are_decided_by_accuracy() -> None:
    close = view_of([dense(), trial(3, 400, 0.80, images=400.0), trial(4, 395, 0.799, images=400.0)])
    assert close.best is not None
    assert close.best.number == 3


def test_nothing_is_within_the_budget() -> None:
    assert view().picked(view().front, limit=50.0) is None

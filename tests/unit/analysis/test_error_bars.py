"""Error bars of a front: of differences on the same images where these are known."""

from __future__ import annotations

from dataclasses import replace

import pytest
from study_views import dense, handcrafted, trial, view_of

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.pairs import paired_difference
from sparsesearch.analysis.view import StudyView
from sparsesearch.report.fronts import front_charts
from sparsesearch.study.hits import Hits
from sparsesearch.tracking.pareto_page import pareto_page
from sparsesearch.visualize.front_plot import front_figure

CORRECT = {2: range(20, 100), 3: range(25, 100), 4: range(60, 100)}


@pytest.fixture
def view() -> StudyView:
    trials = [trial(2, 400, 0.80, images=100.0), trial(3, 300, 0.75, images=100.0), trial(4, 200, 0.4, images=100.0)]
    trials.append(handcrafted(5, 350, 0.7, budget_macs=400, images=100.0))
    return view_of([dense(), *trials])


def with_hits(view: StudyView) -> StudyView:
    hits = {n: Hits.of([image in known for image in range(100)], images="confirm") for n, known in CORRECT.items()}
    return replace(view, hits=hits)


def test_bars_are_of_the_difference_from_the_best(view: StudyView) -> None:
    paired = with_hits(view)
    front = describe_front(paired)
    assert paired.best is not None
    assert paired.best.number == 2
    assert front.bars == "one standard error of the difference from the best schedule, on the same images"
    bars = {point.trial.number: point.bar for point in front.points}
    assert bars[2] == 0.0
    assert bars[3] == pytest.approx(100 * paired_difference(paired.hits[3], paired.hits[2]).standard_error)
    assert bars[5] == pytest.approx(100 * (0.7 * 0.3 / 100) ** 0.5), "which images it classifies correctly is unknown"
    barred = [point.trial.number for series in front.series for point in series.barred]
    assert barred == [5, 4, 3], "not the best, which is compared with"


def test_without_pairs_they_are_of_each_accuracy(view: StudyView) -> None:
    front = describe_front(view)
    assert front.bars == "one standard error"
    assert {point.trial.number for point in front.points if point.bar} == {2, 3, 4, 5}


def test_they_are_in_every_picture_and_table(view: StudyView) -> None:
    paired = with_hits(view)
    front = describe_front(paired)
    assert "std. error" in front.head
    assert front_charts(paired).count('class="line error"') == 2 * 3 * 3, "three lines each, in two widths"
    assert '"error_y"' in pareto_page(front)
    assert "one standard error of the difference" in pareto_page(front)
    (axes,) = front_figure(front).axes
    (bars,) = [c for c in axes.containers if c.get_label().startswith("bars: one standard")]
    assert len(bars.lines[2][0].get_segments()) == 3


def test_nothing_is_drawn_where_no_number_of_images_is_known() -> None:
    front = describe_front(view_of([dense(), trial(2, 400, 0.80)]))
    assert front.bars == ""
    assert "std. error" not in front.head

"""One description of a front, and that everything which shows a front shows its rows, numbers and labels."""

from __future__ import annotations

import json
import math
import re
from html import unescape
from io import StringIO

import pytest
from rich.console import Console
from sample_study import run_sample, sample_spec, ticking
from study_views import dense, handcrafted, trial, view_of

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.front_description import FrontDescription
from sparsesearch.analysis.view import StudyView
from sparsesearch.console.rich_tables import front_table as console_table
from sparsesearch.report.page import report_page
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.spec import Budget
from sparsesearch.tracking.artifact_tables import COLUMNS
from sparsesearch.tracking.artifact_tables import front_table as artifact_table
from sparsesearch.tracking.note import study_note
from sparsesearch.tracking.pareto_page import pareto_page
from sparsesearch.visualize.front_plot import front_figure


def made(*, meaningful: bool = True, timed: bool = False) -> StudyView:
    store = MemoryStore(clock=ticking())
    run_sample(store, sample_spec(evaluations=24, finalists=4, meaningful=meaningful))
    view = StudyView.of(store, "sample")
    if not timed:
        return view
    costs = [one.cost.model_copy(update={"predicted_ms": one.cost.macs / 1e9 + 1}) for one in view.trials]
    trials = [one.model_copy(update={"cost": cost}) for one, cost in zip(view.trials, costs, strict=True)]
    return StudyView(spec=view.spec, trials=tuple(trials), times=view.times)


VIEWS = {"plain": made(), "not meaningful": made(meaningful=False), "with milliseconds": made(timed=True)}


@pytest.fixture(params=VIEWS)
def view(request: pytest.FixtureRequest) -> StudyView:
    return VIEWS[request.param]


@pytest.fixture
def front(view: StudyView) -> FrontDescription:
    return describe_front(view)


def rows_of(front: FrontDescription) -> list[tuple[str, ...]]:
    return [front.head, *(front.cells(point) for point in front.rows)]


def html_rows(page: str) -> list[tuple[str, ...]]:
    """The cells of the first table of a page."""
    table = page[page.index("<table") : page.index("</table>")]
    rows = [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in re.findall(r"<tr.*?</tr>", table)]
    return [tuple(unescape(cell) for cell in row) for row in rows]


def drawn_marks(page: str) -> dict[str, list[tuple[float, float]]]:
    """The positions of the marks of the interactive page, by series."""
    start = re.search(r'Plotly\.newPlot\(\s*"front",\s*', page)
    assert start is not None
    traces = json.JSONDecoder().raw_decode(page, start.end())[0]
    return {t["name"]: list(zip(t["x"], t["y"], strict=True)) for t in traces if t["mode"] == "markers"}


def positions(front: FrontDescription) -> dict[str, list[tuple[float, float]]]:
    return {series.name: [point.position for point in series.points] for series in front.series}


def test_the_console_shows_these_rows(front: FrontDescription) -> None:
    console = Console(width=300, record=True, file=StringIO())
    console.print(console_table(front))
    lines = [line for line in console.export_text().splitlines() if line[0] in "│┃"]
    cells = [tuple(cell.strip() for cell in re.split("[│┃]", line)[2:-1]) for line in lines]
    assert cells == rows_of(front)


def test_the_pages_show_these_rows(view: StudyView, front: FrontDescription) -> None:
    assert html_rows(pareto_page(front)) == rows_of(front)
    report = report_page(view)
    assert html_rows(report[report.index('id="front-table"') :]) == rows_of(front)


def test_the_note_shows_these_rows(view: StudyView, front: FrontDescription) -> None:
    lines = [line.strip("| ").split(" | ") for line in study_note(view).splitlines() if line.startswith("| ")]
    cells = [tuple(cell.strip("`").removesuffix(" **best**") for cell in line) for line in lines]
    assert [line for line in cells if len(line) > 1] == rows_of(front)


def test_the_table_artifact_shows_these_numbers(front: FrontDescription) -> None:
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in json.loads(artifact_table(front))["data"]]
    points = [front.dense, *front.points]
    for row, point in zip(rows, points, strict=True):
        assert point is not None
        assert (row["trial"], row["origin"]) == (point.trial.number, point.origin)
        assert row["tokens left before block"] == point.schedule
        assert row["validation accuracy, %"] == pytest.approx(point.y, abs=1e-4)
        assert row["GMACs"] == pytest.approx(point.x, abs=1e-9)
    assert [row["trial"] for row in rows if row["on the front"]] == [point.trial.number for point in front.front]


def test_the_drawings_show_these_points(view: StudyView, front: FrontDescription) -> None:
    page = drawn_marks(pareto_page(front))
    assert page == positions(front)
    axes = front_figure(front).axes[0]
    picture = {str(marks.get_label()): [tuple(xy) for xy in marks.get_offsets()] for marks in axes.collections}
    assert picture == {name: marks for name, marks in page.items() if name != "dense model"}
    assert (axes.get_xlabel(), axes.get_ylabel()) == (front.x_title, f"{front.metric.title} (finetune)")
    report = unescape(report_page(view))
    for point in front.points:
        assert "\n".join([*point.hint, point.schedule]) in report
    for text in (
        front.x_title,
        front.metric.title,
        front.dense_text,
        *(name for name in page if name != "dense model"),
    ):
        assert text in report
    assert front.dense_text in [text.get_text() for text in axes.texts]


def test_points_of_a_range_of_budgets() -> None:
    trials = [
        dense(),
        trial(1, 500, 0.7, images=2100.0),
        trial(2, 300, 0.6),
        trial(3, 500, 0.65),
        trial(4, 600, 0.75),
        handcrafted(5, 450, 0.72, budget_macs=500),
    ]
    front = describe_front(view_of(trials, budget=Budget(low=0.3, high=0.5)))
    assert [point.trial.number for point in front.points] == [2, 5, 1, 3, 4]
    assert [point.trial.number for point in front.front] == [2, 5, 4]
    assert [point.trial.number for point in front.points if point.within_budget] == [2, 5, 1, 3]
    assert front.best is not None
    assert front.best.trial.number == 5
    assert front.best.is_handcrafted
    first = next(point for point in front.points if point.trial.number == 1)
    assert first.standard_error == pytest.approx(1.0)
    assert first.hint == ("trial 1, search", "70.00 % (standard error 1.00) at 0.0005 MMACs, 50.0 % of dense")
    assert front.limit == pytest.approx(500 / 1e6)


def test_milliseconds_say_how_they_are_known() -> None:
    trials = [
        dense(),
        trial(1, 500, 0.7, predicted_ms=2.0),
        trial(2, 300, 0.6, predicted_ms=1.0, latency_ms=1.25),
        trial(3, 300, 0.6),
    ]
    front = describe_front(view_of(trials, budget=Budget(high=0.5)), axis="ms")
    assert front.x_title == "latency per call, ms (measured where confirmed, otherwise predicted)"
    assert [(point.trial.number, point.x) for point in front.points] == [(2, 1.25), (1, 2.0)]
    assert [front.cells(point)[3] for point in front.front] == ["1.25", "~2"]
    assert front.limit is None, "the budget is in multiply-adds"
    assert front.dense is not None
    assert math.isnan(front.dense.x)
    assert front.dense_text == "dense model: 80.00 % at 0.001 MMACs"
    assert "dense" not in {series.kind for series in front.series}, "its latency is not known"


def test_a_study_without_results() -> None:
    front = describe_front(view_of([]))
    assert (front.rows, front.points, front.best, front.dense) == ((), (), None, None)
    assert front.summary == "No schedule has been evaluated yet."

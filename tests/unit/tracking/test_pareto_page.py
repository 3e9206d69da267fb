"""The page of the front, also in a real browser that has no network."""

from __future__ import annotations

import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from sample_study import run_sample, sample_spec, ticking

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.spec import StudySpec
from sparsesearch.tracking.pareto_page import pareto_page

_HOVER = """<script>
addEventListener("load", () => setTimeout(() => {
  const front = document.getElementById("front");
  const best = front.data.findIndex(trace => trace.name === "best within the budget");
  Plotly.Fx.hover("front", [{curveNumber: best, pointNumber: 0}]);
}, 300));
</script></body>"""


def made(spec: StudySpec | None = None, *, stop_after: int | None = None) -> StudyView:
    store = MemoryStore(clock=ticking())
    spec = spec or sample_spec()
    run_sample(store, spec, stop_after=stop_after)
    return StudyView.of(store, spec.name)


@pytest.fixture(scope="module")
def view() -> StudyView:
    return made()


def test_it_is_one_file_of_its_own(view: StudyView) -> None:
    page = pareto_page(describe_front(view))
    assert len(page.encode()) <= 5_000_000
    shell = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    assert "http" not in shell
    assert re.findall(r"<(?:script|link|img|iframe)[^>]*\b(?:src|href)=", page) == []


def test_equal_studies_have_equal_pages(view: StudyView) -> None:
    assert pareto_page(describe_front(view)) == pareto_page(describe_front(made()))


def test_it_says_what_it_shows(view: StudyView) -> None:
    page = pareto_page(describe_front(view))
    assert "<h1>sample: deit_small_patch16_224 within 45%:80% of dense (finetune)</h1>" in page
    assert "do not transfer" in page
    for trial in view.front.points:
        assert f"<td>{trial.number}</td>" in page


def test_a_study_that_means_nothing_says_so() -> None:
    page = pareto_page(describe_front(made(sample_spec(meaningful=False, source="folder:/data"))))
    assert "not meaningful" in page
    assert "do not transfer" not in page


def test_a_study_without_a_front_yet() -> None:
    page = pareto_page(describe_front(made(stop_after=2)))
    assert "No schedule has been evaluated yet." in page
    assert len(page) < 10_000


def test_fidelities_are_not_mixed() -> None:
    view = made(stop_after=16)
    assert "(supernet)</h1>" in pareto_page(describe_front(view))


def test_what_is_typed_cannot_become_a_script() -> None:
    evil = "x</script><script>alert(1)</script>"
    view = made()
    spec = view.spec.model_copy(update={"backbone": evil})
    trials = tuple(trial.model_copy(update={"label": evil}) for trial in view.trials)
    page = pareto_page(describe_front(StudyView(spec=spec, trials=trials, times=view.times)))
    assert "<script>alert" not in page


def test_a_browser_without_a_network_draws_it(view: StudyView, browse: Callable[[Path], str], tmp_path: Path) -> None:
    file = tmp_path / "front.html"
    file.write_text(pareto_page(describe_front(view)).replace("</body>", _HOVER), encoding="utf-8")
    document = browse(file)
    drawn = document[document.index('class="main-svg"') :]
    traces = re.findall(r'<g class="trace scatter [^"]*"', drawn)
    assert len(traces) == 9  # searched, two hand-crafted baselines, front, best, dense; and three lines
    legend = set(re.findall(r'class="legendtext"[^>]*>([^<]+)<', drawn))
    baselines = {"hand-crafted: rho at 3,6,9", "hand-crafted: rho at 2,5,8"}
    assert legend == {"searched", "Pareto front", "best within the budget", "dense model", *baselines}
    texts = unescape(re.sub(r"<[^>]+>", " ", drawn))
    assert "validation accuracy, %" in texts
    assert "cost per image, GMACs" in texts
    assert "budget" in texts
    assert view.best is not None
    hover = unescape(re.sub(r"<[^>]+>", " ", drawn[drawn.index('class="hovertext"') :]))
    assert f"trial {view.best.number}" in " ".join(hover.split())
    first = view.best.schedule.steps[0]
    assert f"block {first.block}: {round(first.keep_ratio * 196)} of 196 tokens left" in " ".join(hover.split())

"""The report, also in a real browser that has no network."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html import unescape
from pathlib import Path

import pytest
from sample_study import DEIT_SMALL, run_sample, sample_spec, ticking

from sparsesearch.analysis.findings import Findings
from sparsesearch.analysis.view import StudyView
from sparsesearch.papers.overlay import paper_overlay
from sparsesearch.papers.results import paper_family
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.report.bars import parameter_words
from sparsesearch.report.depth_charts import chosen_schedules
from sparsesearch.report.page import findings_page, report_page
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import Fuse, Merge
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.machine import Machine
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Fidelity, Origin

SECTIONS = [
    "front",
    "front-table",
    "next",
    "baseline",
    "schedules",
    "hypervolume",
    "regret",
    "importance",
    "agreement",
    "spending",
    "setup",
]


def made(spec: StudySpec | None = None, *, stop_after: int | None = None) -> StudyView:
    store = MemoryStore(clock=ticking())
    spec = spec or sample_spec(evaluations=24, finalists=4)
    run_sample(store, spec, stop_after=stop_after)
    return StudyView.of(store, spec.name)


@pytest.fixture(scope="module")
def view() -> StudyView:
    return made()


def words_of(document: str) -> str:
    """What a reader sees."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", re.sub(r"<style>.*?</style>", "", document, flags=re.S))).split())


def test_it_is_one_small_file_without_scripts(view: StudyView) -> None:
    page = report_page(view)
    assert len(page.encode()) < 200_000
    assert "http" not in page
    assert re.findall(r"<(?:script|link|img|iframe)\b", page) == []
    assert "url(" not in page


def test_equal_studies_have_equal_reports(view: StudyView) -> None:
    assert report_page(view) == report_page(made())


def test_all_sections_are_there(view: StudyView) -> None:
    page = report_page(view)
    assert re.findall(r'<section id="([^"]+)"', page) == SECTIONS
    text = words_of(page)
    assert "sample: deit_small_patch16_224 within 45%:80% of dense" in text
    assert "bundled digits demo: accuracies and schedules do not transfer" in text
    assert Findings.of(view).convergence.sentence in text
    assert f"{view.hypervolume:.2f} %" in text
    for trial in view.front.points:
        assert view.schedule_text(trial) in text


@pytest.mark.parametrize("stop_after", [0, 1, 2, 3, 12, 13, 20, 36, 37, 39])
def test_a_study_of_any_age_has_a_report(stop_after: int) -> None:
    page = report_page(made(stop_after=stop_after))
    assert page.count("<section") == page.count("</section>")
    assert "nan" not in re.sub(r"<style>.*?</style>", "", page, flags=re.S).lower().replace("finance", "")
    if stop_after <= 2:
        assert "No schedule has been evaluated yet." in page


def test_a_study_without_baselines() -> None:
    spec = sample_spec(evaluations=9, finalists=2).model_copy(update={"baselines": False})
    page = report_page(made(spec))
    assert 'id="baseline"' not in page
    assert 'id="regret"' not in page
    assert 'id="hypervolume"' in page


def test_a_study_that_means_nothing_says_so() -> None:
    page = report_page(made(sample_spec(meaningful=False, source="folder:/data")))
    assert "accuracy not meaningful" in page
    assert "do not transfer" not in page


def test_what_is_typed_cannot_become_markup(view: StudyView) -> None:
    evil = "x'><script>alert(1)</script>"
    spec = view.spec.model_copy(update={"backbone": evil})
    trials = tuple(trial.model_copy(update={"label": evil}) for trial in view.trials)
    assert "<script" not in report_page(StudyView(spec=spec, trials=trials, times=view.times))


def test_latencies_get_a_front_of_their_own(view: StudyView) -> None:
    trials = tuple(
        trial.model_copy(update={"cost": trial.cost.model_copy(update={"latency_ms": trial.cost.macs / 1e9})})
        for trial in view.trials
    )
    page = report_page(StudyView(spec=view.spec, trials=trials, times=view.times))
    assert "latency per call, ms (measured)" in page
    assert "latency per call" not in report_page(view)
    assert view.best is not None
    assert f"latency {view.best.cost.macs / 1e9:.4g} ms measured, dense" in words_of(page)


def test_what_to_type_next(view: StudyView) -> None:
    text = words_of(report_page(view))
    assert "train it in full sparsesearch retrain best.yaml -o sample.safetensors" in text
    assert "explore all studies in MLflow sparsesearch ui" in text
    assert "sparsesearch resume" not in text
    assert "sparsesearch resume sample" in words_of(report_page(made(stop_after=20)))


def test_the_setup(view: StudyView) -> None:
    assert "Setup data digits sampler random seed 0" in words_of(report_page(view))
    machine = Machine(device="A CPU", cores=2, python="3.11.7", sparsesearch="0.1", torch="2.9", timm="1.0")
    resolved = view.spec.resolved
    assert resolved is not None
    spec = view.spec.model_copy(update={"resolved": resolved.model_copy(update={"machine": machine})})
    measured = [
        trial.measurements[-1].model_copy(update={"metrics": {**trial.metrics, "val_images": 1200.0}})
        for trial in view.trials
    ]
    trials = [
        trial.model_copy(update={"measurements": (last,)}) for trial, last in zip(view.trials, measured, strict=True)
    ]
    text = words_of(report_page(StudyView(spec=spec, trials=tuple(trials), times=view.times)))
    assert "validation images 1,200" in text
    assert "machine A CPU, 2 CPU cores" in text
    assert "versions sparsesearch 0.1, torch 2.9, timm 1.0, python 3.11.7" in text
    assert StudySpec.model_validate(view.spec.model_dump(mode="json", exclude={"resolved": {"machine"}})) == view.spec


def test_the_picture_is_part_of_the_file(view: StudyView) -> None:
    page = report_page(view, picture=b"\x89PNG of four images")
    assert '<img src="data:image/png;base64,iVBORyBvZiBmb3VyIGltYWdlcw=="' in page
    assert "http" not in page


def test_published_schedules_over_it(view: StudyView) -> None:
    overlay = paper_overlay(paper_family("deit_s"), DEIT_SMALL, view.spec)
    text = words_of(findings_page(Findings.of(view, paper=overlay)))
    assert "DynamicViT on DeiT-S, published, not comparable" in text
    assert "79.32 %" in text
    assert "arXiv:2106.02034" in text
    assert "cost per image, GMACs" in text
    other = paper_overlay(paper_family("deit_b"), DEIT_SMALL.model_copy(update={"stem_macs": 1}), view.spec)
    assert "cost per image, % of the dense model" in words_of(findings_page(Findings.of(view, paper=other)))


def with_schedule(view: StudyView, schedule: Schedule, geometry: BackboneGeometry) -> StudyView:
    """The same study with another schedule and backbone throughout."""
    assert view.spec.resolved is not None
    resolved = view.spec.resolved.model_copy(update={"geometry": geometry})
    trials = tuple(
        trial if trial.origin is Origin.REFERENCE else trial.model_copy(update={"schedule": schedule})
        for trial in view.trials
    )
    return StudyView(spec=view.spec.model_copy(update={"resolved": resolved}), trials=trials, times=view.times)


def test_towers_are_as_high_as_tokens_are_many(view: StudyView) -> None:
    """98 of 196 tokens from the feed-forward network of block 3 on."""
    schedule = Schedule(steps=(Step(block=3, phase="before_ffn", keep_ratio=0.5, reducer=Fuse()),))
    page = report_page(with_schedule(view, schedule, DEIT_SMALL))
    block = re.search(r'title="(block 3:[^"]*)"><div class="count">98</div><div class="tower">(.*?)</div>', page)
    assert block is not None
    assert re.findall(r"height:([\d.]+)%", block[2]) == ["100.0", "50.0"]
    assert "fuse, scorer dynamicvit: 98 of 196 before the feed-forward network" in unescape(block[1])
    assert "F fuses the dropped tokens into one" in page


def test_two_steps_at_one_place(view: StudyView) -> None:
    steps = (Step(block=3, keep_ratio=0.8), Step(block=3, keep_ratio=0.5, reducer=Merge()))
    page = report_page(with_schedule(view, Schedule(steps=steps), DEIT_SMALL))
    assert '<div class="step">PM</div>' in page


SLOW = {  # 137, 97 and 58 of 196 positions, before blocks 1, 2 and 3
    "convnext_t": ["100.0", "69.9", "49.5", *["29.6"] * 6],
    "swin_t": ["100.0", "69.9", "49.5", *["29.6"] * 3],
}


@pytest.mark.parametrize("name", SLOW)
def test_hierarchical_schedules_by_stage(view: StudyView, name: str) -> None:
    from sparsesearch.backbones.registry import backbone_geometry

    geometry = backbone_geometry(name)
    page = report_page(with_schedule(view, paper_schedule(geometry, 0.7), geometry))
    drawing = page[page.index('<div class="schedules">') : page.index('id="importance"')]
    first = drawing[: drawing.index("</code>")]
    assert first.count('class="stage"') == 4
    assert "positions on the slow path" in drawing
    slow = re.findall(r"height:([\d.]+)%", first)
    depths = [stage.depth for stage in geometry.stages]
    assert len(slow) == sum(depths), "one bar for each block"
    assert slow[depths[0] + depths[1] :][: depths[2]] == SLOW[name]
    assert '<div class="step">S</div>' in first


def test_which_schedules_are_drawn(view: StudyView) -> None:
    chosen = chosen_schedules(view)
    assert view.best in chosen
    assert len(chosen) <= 8
    assert len({trial.number for trial in chosen}) == len(chosen)
    assert any(trial.origin is Origin.BASELINE for trial in chosen)


def test_parameters_in_words() -> None:
    assert parameter_words("position_0") == "location of step 1"
    assert parameter_words("method_2") == "scorer and reduction of step 3"
    assert parameter_words("something_else") == "something_else"


@pytest.mark.slow
def test_a_thousand_evaluations_stay_small_and_quick() -> None:
    view = made(sample_spec(evaluations=1000, finalists=5))
    screened = tuple(trial for trial in view.trials if trial.fidelity is not Fidelity.FINETUNE)
    page = report_page(StudyView(spec=view.spec, trials=screened, times=view.times))
    assert len(page.encode()) < 1_000_000


def test_a_browser_without_a_network_draws_it(view: StudyView, browse: Callable[[Path], str], tmp_path: Path) -> None:
    """The page measures itself: nothing sticks out, and of two drawings the one that fits is shown."""
    for width, shown, hidden in ((1200, "wide", "narrow"), (375, "narrow", "wide")):
        frame = tmp_path / f"{width}.html"
        document = json.dumps(report_page(view)).replace("</", "<\\/")
        frame.write_text(_FRAME.replace("WIDTH", str(width)).replace("REPORT", document), encoding="utf-8")
        text = words_of(browse(frame))
        assert f"sticks out 0 {shown} " in text, text
        assert f"{hidden} 0" in text


_FRAME = """<!DOCTYPE html><html><body><p id="said"></p>
<iframe id="page" style="width:WIDTHpx;height:900px;border:0"></iframe>
<script>
const frame = document.getElementById("page");
frame.onload = () => {
  const page = frame.contentDocument, view = page.documentElement;
  const area = name => [...page.querySelectorAll("." + name + " svg")].reduce((sum, s) => sum + s.clientWidth, 0);
  document.getElementById("said").textContent =
    `sticks out ${view.scrollWidth - view.clientWidth} ` +
    ["wide", "narrow"].sort((a, b) => area(b) - area(a)).map(name => `${name} ${area(name)}`).join(" ");
};
frame.srcdoc = REPORT;
</script></body></html>"""

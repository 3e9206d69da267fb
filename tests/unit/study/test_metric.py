"""The metric of a study, and that everything which ranks or shows results respects its direction and unit."""

from __future__ import annotations

import math

import pytest
from rich.console import Console
from sample_study import run_sample, sample_spec, ticking

from sparsesearch.analysis.agreement import agreement
from sparsesearch.analysis.baseline_comparison import compare_with_baselines
from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.findings import Findings
from sparsesearch.analysis.importance import importance
from sparsesearch.analysis.regret import regret_curves
from sparsesearch.analysis.study_front import study_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.console.rich_tables import front_table, trials_table
from sparsesearch.dispatch.rungs import AccuracyRungs, ParetoRungs
from sparsesearch.report.page import findings_page
from sparsesearch.search.samplers.priors import collect_priors
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.metric import VAL_TOP1, Metric
from sparsesearch.study.spec import RungSpec, StudySpec
from sparsesearch.study.trial import Fidelity, Origin
from sparsesearch.tracking.records import study_record

LOSS = Metric(name="val_loss", higher_is_better=False, unit="number", words="validation loss", short="val loss")


def made(sampler: str) -> StudyView:
    store = MemoryStore(clock=ticking())
    spec = sample_spec(evaluations=24, finalists=4).model_copy(update={"sampler": sampler})
    run_sample(store, spec)
    return StudyView.of(store, spec.name)


@pytest.fixture
def minimised(monkeypatch: pytest.MonkeyPatch) -> None:
    """A task whose metric is the loss, which in these studies is 2 - 1.8 times the accuracy."""
    monkeypatch.setattr(StudySpec, "metric", property(lambda self: LOSS))


def test_values_and_words() -> None:
    metrics = {"val_top1": 0.953, "val_loss": 0.312, "val_images": 2400.0}
    assert (VAL_TOP1.of(metrics), VAL_TOP1.score(metrics)) == (0.953, 0.953)
    assert (LOSS.of(metrics), LOSS.score(metrics)) == (0.312, -0.312)
    assert math.isnan(LOSS.score({}))
    assert (VAL_TOP1.text(0.953), LOSS.text(0.312)) == ("95.30 %", "0.312")
    assert (VAL_TOP1.title, LOSS.title) == ("validation accuracy, %", "validation loss")
    assert VAL_TOP1.relative(0.9, 0.8) > 1 > LOSS.relative(0.9, 0.8)
    assert VAL_TOP1.standard_error(metrics) == pytest.approx(math.sqrt(0.953 * 0.047 / 2400))
    assert LOSS.standard_error(metrics) is None
    assert VAL_TOP1.standard_error({"val_top1": 0.5}) is None


@pytest.mark.parametrize("sampler", ["random", "tpe"])
def test_a_minimised_metric_leads_to_the_same_study(sampler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    by_accuracy = made(sampler)
    points = [trial.number for trial in by_accuracy.front.points]
    assert by_accuracy.best is not None
    schedules = [(trial.fidelity, trial.key) for trial in by_accuracy.trials]
    best, important, agreed = by_accuracy.best.number, importance(by_accuracy), agreement(by_accuracy)
    differences = [row.difference for row in compare_with_baselines(by_accuracy)]
    regrets = [curve.points[-1].mean for curve in regret_curves(by_accuracy)]
    monkeypatch.setattr(StudySpec, "metric", property(lambda self: LOSS))
    by_loss = made(sampler)
    assert [(trial.fidelity, trial.key) for trial in by_loss.trials] == schedules
    assert set(points) <= {trial.number for trial in by_loss.front.points}
    accuracies = [trial.metrics["val_top1"] for trial in by_accuracy.front.points]
    for trial in by_loss.front.points:  # accuracies are rounded more coarsely
        assert min(abs(trial.metrics["val_top1"] - value) for value in accuracies) <= 1e-4
    assert by_loss.best is not None
    assert by_loss.best.number == best
    assert importance(by_loss) == important
    now = agreement(by_loss)
    assert agreed is not None
    assert now is not None
    assert now.tau == pytest.approx(agreed.tau, abs=0.05), "they differ by ties of rounded values"
    for one, two in zip(differences, (row.difference for row in compare_with_baselines(by_loss)), strict=True):
        assert two == (None if one is None else pytest.approx(1.8 * one, abs=2e-4))
    for one, two in zip(regrets, (curve.points[-1].mean for curve in regret_curves(by_loss)), strict=True):
        assert two == (None if one is None else pytest.approx(1.8 * one, abs=2e-4))


def test_a_minimised_metric_is_shown_as_it_is(minimised: None) -> None:
    view = made("random")
    best = view.best
    assert best is not None
    text = f"{best.metrics['val_loss']:.4g}"
    console = Console(width=200)
    with console.capture() as shown:
        console.print(front_table(describe_front(view)))
        console.print(trials_table(view.spec, view.trials))
    assert "val loss" in shown.get()
    assert "accuracy" not in shown.get().replace("accuracies", "")
    record = study_record(view, is_live=False)
    assert f"Best within the budget: {text} validation loss" in record.tags["mlflow.note.content"]
    assert {point.key for point in record.metrics} >= {"val_loss", "dense_val_loss"}
    found = Findings.of(view)
    assert found.document()["front"][0]["val_loss"] == view.front.points[0].metrics["val_loss"]  # type: ignore[index]
    page = findings_page(found)
    assert "validation loss" in page
    assert text in page
    assert view.hypervolume is None, "it has a reference point for metrics to maximise only"


def test_rungs_stop_the_worse_half() -> None:
    view = made("random")
    tuned = [trial for trial in view.trials if trial.fidelity is Fidelity.FINETUNE and trial.origin is Origin.SEARCH]
    spec = RungSpec(first_epoch=1, factor=2)
    for rungs_of in (AccuracyRungs, ParetoRungs):
        stopped = []
        for metric in (VAL_TOP1, LOSS):
            decisions = []
            for trials in (tuned, tuned[::-1]):
                rungs = rungs_of(spec, epochs=2, trials=(), metric=metric)
                decisions += [rungs.decide(trial, trial.measurements[0]) is not None for trial in trials]
            stopped.append(decisions)
        assert stopped[0] == stopped[1]
        assert any(stopped[0])


def test_priors_of_a_minimised_metric(minimised: None) -> None:
    view = made("random")
    dense = view.front.reference
    assert dense is not None
    best = max(prior.accuracy for prior in collect_priors(view.spec, view.trials))
    lowest = min(trial.metrics["val_loss"] for trial in view.evaluated)
    assert best == pytest.approx(dense.metrics["val_loss"] / lowest)


def test_old_documents_have_the_default() -> None:
    assert sample_spec().metric == VAL_TOP1
    assert "metric" not in sample_spec().model_dump()
    assert study_front([]).metric == VAL_TOP1

"""What MLflow is told, as plain values: no MLflow is needed to check it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from sample_study import run_sample, sample_spec, ticking

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.schedule import Schedule
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.events import Ended, Measured
from sparsesearch.study.trial import Cost, Fidelity, Measurement, NewTrial, Origin, TrialState
from sparsesearch.tracking.artifact_tables import COLUMNS, evaluations_table, front_table
from sparsesearch.tracking.progress_metrics import progress_points
from sparsesearch.tracking.records import CREATED_TAG, STUDY_TAG, TRIAL_TAG, study_record, trial_record


@pytest.fixture(scope="module")
def store() -> MemoryStore:
    store = MemoryStore(clock=ticking())
    run_sample(store, sample_spec())
    run_sample(store, sample_spec("stopped"), stop_after=6)
    run_sample(store, sample_spec("dense-only"), stop_after=1)
    return store


@pytest.fixture
def view(store: MemoryStore) -> StudyView:
    return StudyView.of(store, "sample")


class TestTrials:
    def test_only_trainings_have_runs(self, view: StudyView) -> None:
        fidelities = [trial.fidelity for trial in view.trained]
        assert set(fidelities) == {Fidelity.DENSE, Fidelity.SUPERNET_TRAINING, Fidelity.FINETUNE}
        assert len(fidelities) + len(view.evaluated) == len(view.trials)

    def test_every_epoch_is_there_at_the_time_it_was_recorded(self, view: StudyView) -> None:
        dense = view.trained[0]
        record = trial_record(view, dense)
        points = [point for point in record.metrics if point.key == "val_top1"]
        assert [point.step for point in points] == [1, 2, 3, 4]
        assert [point.value for point in points] == [m.metrics["val_top1"] for m in dense.measurements]
        times = view.times.trials[dense.number]
        assert [point.time_ms for point in points] == [round(1000 * times.measured_at[s]) for s in (1, 2, 3, 4)]
        assert record.start_ms == round(1000 * (times.started_at or 0))
        assert record.end_ms == round(1000 * (times.ended_at or 0))

    def test_costs_can_be_plotted_and_schedules_be_read(self, view: StudyView) -> None:
        tuned = next(trial for trial in view.trained if trial.fidelity is Fidelity.FINETUNE)
        record = trial_record(view, tuned)
        metrics = {point.key: point.value for point in record.metrics}
        assert metrics["gmacs"] == tuned.cost.macs / 1e9
        assert 0.4 < metrics["of_dense"] <= 0.8
        assert record.params["schedule"] == view.schedule_text(tuned)
        assert record.params["continues_trial"] == str(tuned.parent)
        assert record.params["train_epochs"] == "2"
        assert len(record.params) <= 100
        assert record.status == "FINISHED"

    def test_a_trial_that_was_interrupted_is_running(self, store: MemoryStore) -> None:
        view = StudyView.of(store, "dense-only")
        assert [trial.state for trial in view.trained] == [TrialState.REFERENCE, TrialState.RUNNING]
        record = trial_record(view, view.trained[1])
        assert record.status == "RUNNING"
        assert record.end_ms is None

    def test_its_identity_tells_it_from_all_others(self, store: MemoryStore) -> None:
        seen = set()
        for name in store.studies():
            view = StudyView.of(store, name)
            for trial in view.trained:
                identity = trial_record(view, trial).identity
                assert set(identity) == {STUDY_TAG, CREATED_TAG, TRIAL_TAG}
                seen.add(tuple(identity.items()))
        assert len(seen) == sum(len(StudyView.of(store, name).trained) for name in store.studies())

    def test_equal_records_have_equal_digests(self, store: MemoryStore, view: StudyView) -> None:
        again = StudyView.of(store, "sample")
        digests = [trial_record(view, trial).digest for trial in view.trained]
        assert digests == [trial_record(again, trial).digest for trial in again.trained]
        assert len(set(digests)) == len(digests)


class TestStudies:
    def test_the_note_leads_with_the_result_and_warns(self, view: StudyView) -> None:
        first = study_record(view, is_live=False).tags["mlflow.note.content"].splitlines()[0]
        assert view.best is not None
        assert f"{100 * view.best.metrics['val_top1']:.2f} %" in first
        assert f"{view.best.cost.macs / 1e9:.3f} GMACs" in first
        assert "front.html" in first
        assert "do not transfer" in first

    def test_it_is_not_called_meaningful_when_it_is_not(self) -> None:
        store = MemoryStore(clock=ticking())
        run_sample(store, sample_spec(meaningful=False, source="folder:/data"))
        record = study_record(StudyView.of(store, "sample"), is_live=False)
        assert "not meaningful" in record.tags["mlflow.note.content"].splitlines()[0]
        assert "not meaningful" in record.tags["warning"]
        assert "do not transfer" not in record.tags["mlflow.note.content"]

    @pytest.mark.parametrize(("name", "is_live", "status"), [
        ("sample", False, "FINISHED"),
        ("sample", True, "RUNNING"),
        ("stopped", False, "RUNNING"),
        ("dense-only", False, "RUNNING"),
    ])  # fmt: skip
    def test_its_status(self, store: MemoryStore, name: str, is_live: bool, status: str) -> None:
        record = study_record(StudyView.of(store, name), is_live=is_live)
        assert record.status == status
        assert (record.end_ms is None) == (status == "RUNNING")

    def test_progress_ends_at_the_best_trial(self, view: StudyView) -> None:
        points = list(progress_points(view))
        last = {point.key: point.value for point in points}
        assert view.best is not None
        assert last["val_top1"] == view.best.metrics["val_top1"]
        assert last["gmacs"] == view.best.cost.macs / 1e9
        assert last["dense_val_top1"] == 0.797

    def test_progress_only_grows(self) -> None:
        store = MemoryStore(clock=ticking())
        views: list[StudyView] = []
        run_sample(store, sample_spec(), on_trial=lambda trial: views.append(StudyView.of(store, "sample")))
        whole = list(progress_points(views[-1]))
        for view in views:
            points = list(progress_points(view))
            assert points == whole[: len(points)]


class TestTables:
    def test_they_hold_every_evaluation_once(self, view: StudyView) -> None:
        table = json.loads(evaluations_table(view))
        assert table["columns"] == list(COLUMNS)
        assert [row[0] for row in table["data"]] == [trial.number for trial in view.evaluated]
        assert {row[COLUMNS.index("fidelity")] for row in table["data"]} == {"supernet"}

    def test_the_front_is_marked(self, view: StudyView) -> None:
        rows = json.loads(front_table(describe_front(view)))["data"]
        on_front = [row[0] for row in rows if row[COLUMNS.index("on the front")] == "yes"]
        assert on_front == [trial.number for trial in view.front.points]
        assert {row[COLUMNS.index("fidelity")] for row in rows} == {"dense", "finetune"}

    def test_a_number_that_is_not_finite_is_left_out(self) -> None:
        store = MemoryStore(clock=ticking())
        writer = store.create_study(sample_spec())
        new = NewTrial(
            number=0,
            fidelity=Fidelity.SUPERNET,
            origin=Origin.SEARCH,
            label="search",
            schedule=Schedule.at([3], [0.5]),
            key="k",
            cost=Cost(macs=10, params=10),
            seed=1,
        )
        writer.add_trial(new)
        writer.claim(0)
        measurement = Measurement(
            step=0, attempt=1, fidelity=new.fidelity, metrics={"val_top1": float("nan")}, seconds=0.0, seed=1
        )
        writer.record(Measured(trial=0, attempt=1, measurement=measurement))
        writer.record(Ended(trial=0, attempt=1, state=TrialState.COMPLETE))
        row = json.loads(evaluations_table(StudyView.of(store, "sample")))["data"][0]
        assert row[COLUMNS.index("validation accuracy, %")] is None


def test_none_of_this_loads_mlflow() -> None:
    code = (
        "import sys, sparsesearch.cli.app, sparsesearch.app.tracker, sparsesearch.tracking.records, "
        "sparsesearch.tracking.files, sparsesearch.tracking.sync; "
        "print([name for name in ('mlflow', 'plotly', 'torch') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"

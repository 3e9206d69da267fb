"""MLflow is made to show what the store holds, whatever happened before. A real MLflow on SQLite."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
from sample_study import DEIT_SMALL, MadeUpEvaluator, Telling, run_sample, sample_spec
from shown import ShownRun, shown_runs

from sparsesearch.app.tracker import mlflow_address, study_sync
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.errors import StudyNotFoundError, TrackingError
from sparsesearch.schedule import Schedule
from sparsesearch.search.controller import StagedController
from sparsesearch.settings import Settings
from sparsesearch.store.audit import Actor
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.events import Measured
from sparsesearch.study.protocols import Controller
from sparsesearch.study.trial import Cost, Fidelity, Measurement, NewTrial, Origin
from sparsesearch.tracking.connection import Connection, connect
from sparsesearch.tracking.file_lock import FileLock
from sparsesearch.tracking.sync import Changes, StudySync

FILES = {"best.yaml", "front.html", "front.json", "front.png", "report.html", "study.yaml", "supernet.json"}
NOTHING = Changes()


@pytest.fixture
def store(settings: Settings) -> SqlStore:
    return open_store(settings.database_url)


@pytest.fixture
def mlflow(settings: Settings) -> Connection:
    return connect(mlflow_address(settings))


def sync(store: SqlStore, settings: Settings, *, is_live: bool = False, study: str = "sample") -> Changes:
    """As a process of its own would do it."""
    return study_sync(store, settings, study).run(is_live=is_live)


def discard(changes: Changes) -> None:
    """For callbacks that return nothing."""


def the_study(runs: dict[tuple[str, str], ShownRun]) -> ShownRun:
    return next(run for (_, number), run in runs.items() if number == "")


def test_a_whole_study(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    run_sample(store, sample_spec())
    trained = [trial for trial in store.trials("sample") if trial.fidelity != "supernet"]
    changes = sync(store, settings)
    assert changes == Changes(created=1 + len(trained), files=True)
    runs = shown_runs(mlflow.client)
    study = the_study(runs)
    assert study.name == "sample"
    assert set(study.files) == FILES
    children = [run for run in runs.values() if run is not study]
    assert {run.parent for run in children} == {study.run_id}
    assert {run.params["trial"] for run in children} == {str(trial.number) for trial in trained}
    assert {run.status for run in runs.values()} == {"FINISHED"}
    tables = json.loads(study.tags["mlflow.loggedArtifacts"])
    assert {table["path"] for table in tables} == {"front.json", "supernet.json"}
    assert "RUN_PAGE" not in study.tags["mlflow.note.content"]
    assert "/runs/RUN/artifacts/front.html" in study.tags["mlflow.note.content"]


def test_again_changes_nothing(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    run_sample(store, sample_spec())
    one = study_sync(store, settings, "sample")
    one.run(is_live=False)
    before = shown_runs(mlflow.client)
    assert one.run(is_live=False) == NOTHING
    assert one.pending() == 0
    assert sync(store, settings) == NOTHING
    assert shown_runs(mlflow.client) == before


def test_step_by_step_is_the_same_as_at_once(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    live = study_sync(store, settings, "sample")
    run_sample(store, sample_spec(), on_trial=lambda trial: discard(live.run(is_live=True)))
    live.run(is_live=False)
    step_by_step = shown_runs(mlflow.client)
    for run in step_by_step.values():
        mlflow.client.delete_run(run.run_id)
    sync(store, settings)
    assert shown_runs(mlflow.client) == step_by_step


def test_a_study_that_was_interrupted_goes_on(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    run_sample(store, sample_spec(), stop_after=17)
    sync(store, settings)
    assert the_study(shown_runs(mlflow.client)).status == "RUNNING"
    run_sample(store, sample_spec())
    changes = sync(store, settings)
    assert changes.created > 0
    assert changes.files
    runs = shown_runs(mlflow.client)
    assert {run.status for run in runs.values()} == {"FINISHED"}
    for run in runs.values():
        mlflow.client.delete_run(run.run_id)
    sync(store, settings)
    assert shown_runs(mlflow.client) == runs


def test_what_was_deleted_comes_back(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    run_sample(store, sample_spec())
    sync(store, settings)
    before = shown_runs(mlflow.client)
    child = next(run for (_, number), run in before.items() if number == "0")
    mlflow.client.delete_run(child.run_id)
    assert sync(store, settings) == Changes(created=1)
    assert shown_runs(mlflow.client) == before


def test_runs_with_the_tags_of_older_versions_are_taken_over(
    store: SqlStore, settings: Settings, mlflow: Connection
) -> None:
    run_sample(store, sample_spec())
    sync(store, settings)
    shown = shown_runs(mlflow.client)
    for run in shown.values():  # as format 3 left them
        mlflow.client.set_tag(run.run_id, "sparsesearch.mirrored", run.tags["sparsesearch.synced"])
        mlflow.client.delete_tag(run.run_id, "sparsesearch.synced")
        mlflow.client.set_tag(run.run_id, "sparsesearch.found_by", "search")
    changes = sync(store, settings)
    assert (changes.created, changes.removed, changes.changed) == (0, 0, len(shown))
    assert shown_runs(mlflow.client) == shown
    assert {run.run_id for run in shown_runs(mlflow.client).values()} == {run.run_id for run in shown.values()}


def test_a_new_parent_gets_the_children(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    run_sample(store, sample_spec())
    sync(store, settings)
    before = shown_runs(mlflow.client)
    mlflow.client.delete_run(the_study(before).run_id)
    changes = sync(store, settings)
    assert changes == Changes(created=1, changed=len(before) - 1, files=True)
    runs = shown_runs(mlflow.client)
    assert runs == before
    parent = the_study(runs).run_id
    assert parent != the_study(before).run_id
    assert {run.parent for run in runs.values()} == {parent, None}


def test_what_was_deleted_meanwhile_comes_back_too(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    run_sample(store, sample_spec(), stop_after=17)
    live = study_sync(store, settings, "sample")
    live.run(is_live=True)
    for run in shown_runs(mlflow.client).values():
        mlflow.client.delete_run(run.run_id)
    run_sample(store, sample_spec())
    with pytest.raises(TrackingError, match="must be in the 'active' state"):
        live.run(is_live=False)
    assert live.run(is_live=False).created > 0
    assert sync(store, settings) == NOTHING


def test_a_run_that_was_begun_is_completed(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    """A process may die between any two calls to MLflow."""
    run_sample(store, sample_spec())
    sync(store, settings)
    before = shown_runs(mlflow.client)
    child = next(run for (_, number), run in before.items() if number == "0")
    mlflow.client.delete_run(child.run_id)
    identity = {key: value for key, value in child.tags.items() if key.startswith(("sparsesearch.", "mlflow.source"))}
    del identity["sparsesearch.synced"]
    mlflow.client.create_run(
        mlflow.experiment_id,
        start_time=child.times[0],
        tags={**identity, "mlflow.parentRunId": child.parent},
        run_name=child.name,
    )
    assert sync(store, settings) == Changes(changed=1)
    assert shown_runs(mlflow.client) == before


def test_doubles_are_removed(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    run_sample(store, sample_spec())
    sync(store, settings)
    before = shown_runs(mlflow.client)
    child = next(run for (_, number), run in before.items() if number == "1")
    mlflow.client.create_run(mlflow.experiment_id, tags={**child.tags, "mlflow.parentRunId": child.parent})
    study = the_study(before)
    mlflow.client.create_run(mlflow.experiment_id, tags=study.tags)
    assert sync(store, settings).removed == 2
    sync(store, settings)
    again = shown_runs(mlflow.client)
    assert again.keys() == before.keys()
    assert sync(store, settings) == NOTHING


def test_a_name_that_is_used_again_is_another_study(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    run_sample(store, sample_spec())
    sync(store, settings)
    first = shown_runs(mlflow.client)
    store.delete_study("sample")
    run_sample(store, sample_spec(seed=1))
    sync(store, settings)
    both = shown_runs(mlflow.client)
    assert len(both) > len(first)
    assert {key: both[key] for key in first} == first


def test_studies_do_not_mix(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    run_sample(store, sample_spec("a"))
    run_sample(store, sample_spec("a-b"))
    sync(store, settings, study="a")
    sync(store, settings, study="a-b")
    assert sync(store, settings, study="a") == NOTHING
    assert sync(store, settings, study="a-b") == NOTHING
    assert sorted(run.name for (_, number), run in shown_runs(mlflow.client).items() if not number) == ["a", "a-b"]


def test_a_study_without_a_number_is_not_shown(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    run_sample(store, sample_spec(), stop_after=0)
    one = study_sync(store, settings, "sample")
    assert one.run(is_live=True) == NOTHING
    assert one.pending() == 0
    assert shown_runs(mlflow.client) == {}


def test_two_processes_at_once_make_no_doubles(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    live, other = study_sync(store, settings, "sample"), study_sync(store, settings, "sample")

    def both(trial: object) -> None:
        live.run(is_live=True)
        other.run(is_live=True)

    run_sample(store, sample_spec(), on_trial=both)
    assert live.run(is_live=False).created == 0
    assert sync(store, settings) == NOTHING
    shown_runs(mlflow.client)


def test_more_epochs_than_a_batch_holds(store: SqlStore, settings: Settings, mlflow: Connection) -> None:
    writer = store.create_study(sample_spec())
    new = NewTrial(
        number=0,
        fidelity=Fidelity.DENSE,
        origin=Origin.REFERENCE,
        label="dense",
        schedule=Schedule(),
        key="dense",
        cost=Cost(macs=10**9, params=10**6),
        seed=1,
    )
    writer.add_trial(new)
    writer.claim(0)
    for step in range(1, 401):
        metrics = {"val_top1": step / 401, "val_loss": 1.0, "train_loss": float("nan") if step == 7 else 2.0}
        measurement = Measurement(step=step, attempt=1, fidelity=Fidelity.DENSE, metrics=metrics, seconds=1.0, seed=1)
        writer.record(Measured(trial=0, attempt=1, measurement=measurement))
    sync(store, settings)
    runs = shown_runs(mlflow.client)
    child = next(run for (_, number), run in runs.items() if number == "0")
    assert [step for step, _, _ in child.metrics["val_top1"]] == list(range(1, 401))
    assert child.status == "RUNNING"
    assert sync(store, settings) == NOTHING


def test_files_of_a_running_study_are_not_renewed_at_every_look(
    store: SqlStore, settings: Settings, mlflow: Connection
) -> None:
    now = [1000.0]
    written: list[int] = []

    def count(view: object, folder: Path) -> None:
        written.append(1)

    live = StudySync(
        store,
        "sample",
        address=mlflow_address(settings),
        lock=FileLock(settings.home / "lock"),
        write_files=count,
        clock=lambda: now[0],
    )
    looks: list[bool] = []

    def look(trial: object) -> None:
        now[0] += 2.0
        looks.append(live.run(is_live=True).files)

    run_sample(store, sample_spec(), on_trial=look)
    assert looks[0]
    assert 2 <= sum(looks) <= 2 + 2 * len(looks) / 10
    live.run(is_live=False)
    assert live.pending() == 0
    assert len(written) == sum(looks) + 1


def test_the_last_files_are_written_when_no_controller_works(
    store: SqlStore, settings: Settings, mlflow: Connection
) -> None:
    written: list[str] = []

    def write(view: object, folder: Path) -> None:
        (folder / "last.txt").write_text("drawn")
        written.append("last")

    live = StudySync(
        store,
        "sample",
        address=mlflow_address(settings),
        lock=FileLock(settings.home / "lock"),
        write_files=lambda view, folder: None,
        write_last=write,
    )
    run_sample(store, sample_spec(), on_trial=lambda trial: discard(live.run(is_live=True)))
    live.run(is_live=True)
    assert written == []
    assert live.run(is_live=False).files, "though nothing else of them has changed"
    assert live.run(is_live=False) == NOTHING
    assert written == ["last"]
    assert "last.txt" in the_study(shown_runs(mlflow.client)).files


def test_how_far_mlflow_is_behind_is_known_from_the_store(
    store: SqlStore, settings: Settings, mlflow: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.queue.submit(sample_spec(), by=Actor("ann"))
    claim = store.queue.claim()
    assert claim is not None
    writer = store.open_claimed("sample", claim.lease)
    lags = []

    def look(trial: object) -> None:
        time.sleep(0.01)
        lags.append(store.service_numbers().mlflow_lag_s)
        if len(lags) in (3, 6):
            sync(store, settings)
            assert store.service_numbers().mlflow_lag_s == 0.0

    controller: Controller = StagedController(writer.spec, DEIT_SMALL)
    InlineDispatcher(observer=Telling(look)).run(controller, writer, MadeUpEvaluator())
    assert lags[:3] == [0.0] * 3, "it was never in MLflow"
    assert 0.0 < lags[4] < lags[5] > lags[6]
    monkeypatch.setattr(StudySync, "_update_runs", lambda *_, **__: 1 / 0)
    before = store.service_numbers().mlflow_lag_s
    with pytest.raises(ZeroDivisionError):
        sync(store, settings)
    assert store.service_numbers().mlflow_lag_s >= before > 0.0
    writer.close()


def test_a_study_that_is_not_there(store: SqlStore, settings: Settings) -> None:
    with pytest.raises(StudyNotFoundError):
        sync(store, settings, study="nothing")

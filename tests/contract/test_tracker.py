"""What every tracker keeps to: it shows studies, and never gets in their way."""

from __future__ import annotations

import shutil
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from mlflow_server import MlflowServer
from sample_study import run_sample, sample_spec
from shown import shown_runs

from sparsesearch.analysis.view import StudyView
from sparsesearch.app.tracker import study_sync
from sparsesearch.settings import Settings
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.observer import NoObserver, StudyObserver, observed
from sparsesearch.tracking.mlflow_tracker import MlflowTracker


@dataclass
class Made:
    """A tracker, and what it said to people."""

    tracker: StudyObserver
    store: SqlStore
    works: bool
    said: list[str] = field(default_factory=list)


@pytest.fixture
def silent_port() -> Iterator[str]:
    """A server that takes connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(50)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


KINDS = ["null", "database", pytest.param("server", marks=pytest.mark.slow), "closed port", "silent port", "broken"]


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Made:
    store = open_store(settings.database_url)
    if request.param == "null":
        return Made(NoObserver(), store, works=True)
    uri: str | None = None
    if request.param == "server":
        server: MlflowServer = request.getfixturevalue("running_mlflow_server")
        uri = server.uri
    elif request.param == "closed port":
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    elif request.param == "silent port":
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "3")
        uri = request.getfixturevalue("silent_port")
    elif request.param == "broken":
        (settings.home / "mlflow.db").write_text("this is no database " * 100)
    settings = settings.model_copy(update={"mlflow_tracking_uri": uri})
    works = request.param in ("database", "server")
    said: list[str] = []
    tracker = MlflowTracker(
        lambda study: study_sync(store, settings, study),
        report=said.append,
        pause_s=0.05,
        poll_s=0.2,
        retry_s=0.1,
        flush_s=60.0 if works else 1.0,
    )
    return Made(tracker, store, works=works, said=said)


def test_the_study_is_the_same_as_without_it(
    made: Made, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    alone = open_store(f"sqlite:///{settings.home}/alone.db")
    run_sample(alone, sample_spec())
    made.store.create_study(sample_spec()).close()
    with observed(made.tracker, "sample"):
        run_sample(made.store, sample_spec(), on_trial=made.tracker.changed)
    assert made.store.trials("sample") == alone.trials("sample")
    assert capsys.readouterr().out == ""
    if made.works:
        assert made.said == []
        return
    num = 1 + len(StudyView.of(made.store, "sample").trained)
    assert made.said[-1].startswith(f"{num} runs of study sample not yet synced to MLflow (")
    assert made.said[-1].endswith("; run: sparsesearch mlflow sync sample")
    assert all("\n" not in line for line in made.said)
    assert len(made.said) <= 2  # one when it fails, one at the end


def test_it_never_raises(made: Made) -> None:
    made.tracker.ended(is_interrupted=False)
    made.tracker.started("a study that is not there")
    made.tracker.ended(is_interrupted=False)
    made.tracker.ended(is_interrupted=True)
    assert all("\n" not in line for line in made.said)


def test_the_end_of_a_study_waits_only_so_long(made: Made) -> None:
    run_sample(made.store, sample_spec())
    made.tracker.started("sample")
    time.sleep(0.3)
    started = time.monotonic()
    made.tracker.ended(is_interrupted=False)
    assert made.works or time.monotonic() - started < 3.0


def test_an_interruption_goes_through(made: Made) -> None:
    run_sample(made.store, sample_spec(), stop_after=3)
    interruption = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt) as caught, observed(made.tracker, "sample"):
        raise interruption
    assert caught.value is interruption


def test_it_serves_one_study_after_the_other(made: Made) -> None:
    for name in ("one", "two"):
        spec = sample_spec(name, evaluations=3, finalists=1)
        made.store.create_study(spec).close()
        with observed(made.tracker, name):
            run_sample(made.store, spec, on_trial=made.tracker.changed)
    if made.works:
        assert made.said == []
    else:
        assert made.said[-1].endswith("sparsesearch mlflow sync two")


@pytest.mark.slow
def test_a_server_that_keeps_files_on_its_own_machine_gets_the_numbers(
    settings: Settings, tmp_path: Path, mlflow_tables: Path
) -> None:
    folder = tmp_path / "other-machine"
    folder.mkdir()
    shutil.copy(mlflow_tables, folder / "mlflow.db")
    server = MlflowServer(folder, host="127.0.0.2", serves_artifacts=False)
    store = open_store(settings.database_url)
    remote = settings.model_copy(update={"mlflow_tracking_uri": server.uri})
    said: list[str] = []
    try:
        server.start()
        tracker = MlflowTracker(lambda study: study_sync(store, remote, study), report=said.append, flush_s=60.0)
        store.create_study(sample_spec()).close()
        with observed(tracker, "sample"):
            run_sample(store, sample_spec(), on_trial=tracker.changed)
        (line,) = said
        assert line.startswith(f"MLflow at {server.uri} keeps files in {folder / 'of-the-server'}")
        assert "plots and models are not logged, only numbers; start the server with --serve-artifacts" in line
        runs = {number: run for (_, number), run in shown_runs(server.client).items()}
        trained = StudyView.of(store, "sample").trained
        assert len(runs) == 1 + len(trained)
        assert all(run.status == "FINISHED" and not run.files for run in runs.values())
        for trial in trained:
            points = runs[str(trial.number)].metrics["val_top1"]
            assert [value for *_, value in points] == [m.metrics["val_top1"] for m in trial.measurements]
        assert not list(folder.glob("of-the-server/*")), "nothing was written past the server"
    finally:
        server.stop()

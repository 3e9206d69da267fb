"""The load of the machine on the page of a study, by MLflow's own switch. A real MLflow on SQLite."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable

import pytest
from sample_study import run_sample, sample_spec

from sparsesearch.app.tracker import mlflow_address, study_sync
from sparsesearch.settings import Settings
from sparsesearch.store.sql import open_store
from sparsesearch.tracking.connection import connect
from sparsesearch.tracking.mlflow_tracker import MlflowTracker

SWITCH = "MLFLOW_ENABLE_SYSTEM_METRICS_LOGGING"


def system_metrics(settings: Settings) -> set[str]:
    connection = connect(mlflow_address(settings))
    runs = connection.client.search_runs([connection.experiment_id])
    return {key for run in runs for key in run.data.metrics if key.startswith("system/")}


def until(condition: Callable[[], object]) -> None:
    end = time.monotonic() + 60.0
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture
def tracked(settings: Settings) -> tuple[MlflowTracker, list[str]]:
    said: list[str] = []
    store = open_store(settings.database_url)
    run_sample(store, sample_spec(), stop_after=4)
    tracker = MlflowTracker(
        lambda study: study_sync(store, settings, study), report=said.append, pause_s=0.05, poll_s=0.2
    )
    return tracker, said


def is_monitored() -> bool:
    return any(thread.name == "SystemMetricsMonitor" for thread in threading.enumerate())


def test_they_are_logged_while_the_study_runs(
    tracked: tuple[MlflowTracker, list[str]], settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "true")
    monkeypatch.setenv("MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL", "0.2")
    tracker, said = tracked
    tracker.started("sample")
    until(lambda: "system/cpu_utilization_percentage" in system_metrics(settings))
    assert is_monitored()
    tracker.ended(is_interrupted=False)
    assert not is_monitored()
    assert said == []


def test_not_unless_they_are_wanted(tracked: tuple[MlflowTracker, list[str]], settings: Settings) -> None:
    tracker, _ = tracked
    tracker.started("sample")
    tracker.ended(is_interrupted=False)
    assert system_metrics(settings) == set()


def test_without_psutil_one_line_says_how_to_install_it(
    tracked: tuple[MlflowTracker, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SWITCH, "true")
    monkeypatch.setitem(sys.modules, "mlflow.system_metrics.system_metrics_monitor", None)
    tracker, said = tracked
    tracker.started("sample")
    until(lambda: said)
    tracker.ended(is_interrupted=False)
    assert said == [f"{SWITCH} is set, but psutil is not installed; run: pip install 'sparsesearch[system-metrics]'"]

"""The way to MLflow, and what is said when there is none."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import time
from pathlib import Path

import pytest

from sparsesearch.app.tracker import mlflow_address
from sparsesearch.errors import TrackingError
from sparsesearch.settings import Settings
from sparsesearch.tracking.connection import EXPERIMENT, VIEW_TAG, Address, connect


@pytest.mark.parametrize(("uri", "shown"), [
    ("http://me:secret@localhost:5000/", "http://localhost:5000"),
    ("https://example.org/mlflow?x=1", "https://example.org/mlflow"),
    ("postgresql://me:secret@db/mlflow", "postgresql://me:***@db/mlflow"),
    ("sqlite:////a/b.db", "sqlite:////a/b.db"),
])  # fmt: skip
def test_no_password_is_shown(tmp_path: Path, uri: str, shown: str) -> None:
    assert Address(uri, tmp_path).shown == shown


def test_by_default_all_lies_in_the_home(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, database_url="sqlite://")
    address = mlflow_address(settings)
    assert address.uri == f"sqlite:///{tmp_path}/mlflow.db"
    assert address.artifacts == tmp_path / "mlflow-artifacts"
    assert address.is_ours


def test_the_environment_names_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPARSESEARCH_HOME", str(tmp_path))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://localhost:1")
    address = mlflow_address(Settings.from_environment())
    assert address.uri == "http://localhost:1"
    assert not address.is_ours


def test_a_closed_port_is_told_at_once_in_one_line(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        uri = f"http://127.0.0.1:{probe.getsockname()[1]}"
    started = time.monotonic()
    with pytest.raises(TrackingError, match=rf"^MLflow at {uri} does not respond \(connection refused\)$"):
        connect(Address(uri, tmp_path))
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("uri", ["http://", "http://localhost:port", "http://localhost:99999"])
def test_what_is_no_address(tmp_path: Path, uri: str) -> None:
    with pytest.raises(TrackingError, match=r"invalid MLflow address .*; set MLFLOW_TRACKING_URI to http://HOST:PORT"):
        connect(Address(uri, tmp_path))


@pytest.mark.parametrize("uri", ["./mlruns", "file:///tmp/mlruns", "mlruns"])
def test_plain_folders_are_refused(tmp_path: Path, uri: str) -> None:
    with pytest.raises(TrackingError, match="MLflow no longer supports folders as tracking URI"):
        connect(Address(uri, tmp_path))


@pytest.mark.parametrize("uri", ["sqlite:///FILE/mlflow.db", "nonsense://x"])
def test_what_mlflow_refuses_is_one_line(tmp_path: Path, uri: str) -> None:
    (tmp_path / "file").touch()
    uri = uri.replace("FILE", str(tmp_path / "file"))
    with pytest.raises(TrackingError) as caught:
        connect(Address(uri, tmp_path))
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("MLflow at ")


def test_a_file_that_is_no_database(settings: Settings) -> None:
    (settings.home / "mlflow.db").write_text("no database at all, but long enough to be looked at " * 20)
    with pytest.raises(TrackingError, match=r"MLflow at sqlite:.* failed: file is not a database"):
        connect(mlflow_address(settings))


def test_people_may_look_while_a_study_writes(settings: Settings) -> None:
    connect(mlflow_address(settings))
    with sqlite3.connect(settings.home / "mlflow.db") as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_nothing_is_put_into_the_working_directory(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    connection = connect(mlflow_address(settings))
    experiment = connection.client.get_experiment(connection.experiment_id)
    assert experiment.artifact_location == settings.mlflow_artifacts.as_uri()
    assert list(here.iterdir()) == []


def test_an_experiment_that_was_deleted_comes_back(settings: Settings) -> None:
    first = connect(mlflow_address(settings))
    first.client.delete_experiment(first.experiment_id)
    assert connect(mlflow_address(settings)).experiment_id == first.experiment_id
    assert first.client.get_experiment_by_name(EXPERIMENT).lifecycle_stage == "active"


def test_what_the_user_has_set_stays(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "4")
    connect(mlflow_address(settings))
    assert os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] == "4"
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_the_table_of_runs_has_a_view_also_in_an_older_experiment(settings: Settings) -> None:
    connection = connect(mlflow_address(settings))
    for _ in range(2):
        tags = connection.client.get_experiment(connection.experiment_id).tags
        columns = json.loads(tags[VIEW_TAG])["selectedColumns"]
        assert {"metrics.`val_top1`", "metrics.`gmacs`", "metrics.`of_dense`"} <= set(columns)
        connection.client.set_experiment_tag(connection.experiment_id, VIEW_TAG, "")
        connect(mlflow_address(settings))

"""The way to MLflow, and what is said when there is none."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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


@pytest.mark.parametrize("uri", ["databricks", "databricks://profile", "databricks-uc"])
def test_databricks_is_refused_in_one_line(tmp_path: Path, uri: str) -> None:
    with pytest.raises(TrackingError, match=rf"^MLflow on Databricks \(MLFLOW_TRACKING_URI={uri}\) is not s"):
        connect(Address(uri, tmp_path))


class Answers(BaseHTTPRequestHandler):
    """Answers every request like a proxy or a login page, as its class says."""

    status, headers_sent, body = 502, {}, b""

    def do_GET(self) -> None:
        self.send_response(self.status)
        for name, value in self.headers_sent.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(self.body)

    do_POST = do_GET

    def log_message(self, format: str, *arguments: object) -> None:
        """Say nothing."""


@contextmanager
def answering(status: int, body: bytes, **headers: str) -> Iterator[str]:
    kind = type("Kind", (Answers,), {"status": status, "body": body, "headers_sent": headers})
    server = ThreadingHTTPServer(("127.0.0.1", 0), kind)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


PAGE = b"<html>\n<head><title>Sign in</title></head>\n" + b"<p>x</p>\n" * 10_000 + b"</html>"


@pytest.mark.parametrize(
    ("status", "body", "words"),
    [
        (407, b"<html>Proxy Authentication Required</html>", "407"),
        (502, PAGE, "502"),
        (200, PAGE, "is not MLflow, but perhaps a proxy or a login page"),
        (200, b"", "is not MLflow, but perhaps a proxy or a login page"),
        (200, b"[1]", ""),
        (200, b"{}", ""),
        (401, b"{}", ""),
        (204, b"", "204"),
    ],
)
def test_what_is_not_mlflow_is_one_short_line(tmp_path: Path, status: int, body: bytes, words: str) -> None:
    with answering(status, body) as uri, pytest.raises(TrackingError) as caught:
        connect(Address(uri, tmp_path))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_a_proxy_is_what_must_respond(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("no_proxy", "inside.example")
    with pytest.raises(
        TrackingError, match=rf"^the proxy 127.0.0.1:{port} on the way to MLflow at http://mlflow.example"
    ):
        connect(Address("http://mlflow.example:5000", tmp_path))
    with answering(407, b"") as proxy:
        monkeypatch.setenv("http_proxy", proxy)
        with pytest.raises(TrackingError, match="407"):
            connect(Address("http://mlflow.example:5000", tmp_path))
    with pytest.raises(TrackingError, match=r"^MLflow at http://inside.example:5000 does not respond"):
        connect(Address("http://inside.example:5000", tmp_path))


_CONNECT = """
import sys
from pathlib import Path
from sparsesearch.tracking.connection import Address, connect
home = Path(sys.argv[1])
address = Address(f"sqlite:///{home / 'mlflow.db'}", home / "mlflow-artifacts", is_ours=True)
print(connect(address).experiment_id)
"""


def test_two_processes_at_once_make_our_own_database(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _CONNECT, str(tmp_path)]
    first, second = (
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(2)
    )
    (one, errors), (other, more) = first.communicate(timeout=300), second.communicate(timeout=300)
    assert (first.returncode, second.returncode) == (0, 0), errors + more
    assert one.splitlines()[-1] == other.splitlines()[-1]

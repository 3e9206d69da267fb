"""`sparsesearch ui` and `sparsesearch mlflow`, as people use them."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import urllib.request
from pathlib import Path

import pytest
from answers import PROGRAM, Command
from sample_study import run_sample, sample_spec

from sparsesearch.settings import Settings
from sparsesearch.store.sql import open_store


@pytest.fixture
def studies(home: Path) -> None:
    store = open_store(Settings.from_environment().database_url)
    for name in ("one", "two"):
        run_sample(store, sample_spec(name, evaluations=3, finalists=1))
    store.close()


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_pages_are_served_until_they_are_stopped(studies: None, program: Command, how: signal.Signals) -> None:
    synced = program("mlflow", "sync").out
    assert "one: 16 runs created, page and tables updated" in synced
    assert "two: 16 runs created" in synced
    process = subprocess.Popen(
        [str(PROGRAM), "ui"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    assert "press Ctrl-C to stop" in line
    url = line.split()[1]
    root, _, page = url.partition("/#")
    assert root.startswith("http://127.0.0.1:")
    assert page.startswith("/experiments/")
    with urllib.request.urlopen(root, timeout=30) as answer:
        assert b"<title>MLflow</title>" in answer.read()
    search = urllib.request.Request(
        f"{root}/api/2.0/mlflow/runs/search",
        data=json.dumps({"experiment_ids": [page.split("/")[2]], "filter": "tags.`sparsesearch.trial` = '0'"}).encode(),
        headers={"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(search, timeout=30) as answer:
        assert {run["info"]["run_name"] for run in json.load(answer)["runs"]} == {"dense model"}
    process.send_signal(how)
    assert process.wait(30) == 0
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(root, timeout=5)


def test_a_port_that_is_taken(command: Command) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        answer = command("ui", "--port", port)
    assert answer.code == 2
    assert f"port {port} is in use; choose another with --port" in answer.err


def test_a_server_of_its_own_is_only_named(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@mlflow.example:5000")
    answer = command("ui")
    assert answer.code == 0
    assert "http://mlflow.example:5000" in answer.out
    assert "secret" not in answer.out


def test_a_wrong_name_is_refused_before_anything_is_done(command: Command, studies: None, home: Path) -> None:
    assert "no study 'three'" in command("mlflow", "sync", "one", "three").complaint
    assert not (home / "mlflow.db").exists()


def test_no_studies_is_no_error(command: Command) -> None:
    answer = command("mlflow", "sync")
    assert answer.code == 0
    assert "No studies yet." in answer.out

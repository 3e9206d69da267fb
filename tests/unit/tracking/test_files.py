"""Where the files of a run can be stored from this machine."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sparsesearch.tracking.connection import Address
from sparsesearch.tracking.files import artifact_problem


class Client:
    """What MLflow's client says of a run."""

    def __init__(self, uri: str) -> None:
        self._uri = uri

    def get_run(self, run_id: str) -> Any:
        return SimpleNamespace(info=SimpleNamespace(artifact_uri=self._uri))


def problem(server: str, artifacts: str, tmp_path: Path) -> str | None:
    client: Any = Client(artifacts.replace("TMP", str(tmp_path)))
    return artifact_problem(Address(server, tmp_path), client, "run")


@pytest.mark.parametrize(
    ("server", "artifacts"),
    [
        ("http://tracking.example", "mlflow-artifacts:/1/run/artifacts"),
        ("http://tracking.example", "s3://bucket/1"),
        ("http://127.0.0.1:5000", "TMP/mlruns/1"),
        ("http://localhost:5000", "file://TMP/ml%20runs/1"),
        ("sqlite:///TMP/a.db", "/nowhere/else"),
    ],
)
def test_files_can_be_stored(tmp_path: Path, server: str, artifacts: str) -> None:
    assert problem(server, artifacts, tmp_path) is None


@pytest.mark.parametrize(
    ("server", "artifacts"),
    [
        ("http://tracking.example", "TMP/mlruns/1"),
        ("http://tracking.example", "file:///srv/mlruns/1"),
        ("http://127.0.0.1:5000", "/mlartifacts-of-a-container/1"),
    ],
)
def test_a_folder_of_another_machine_is_named(tmp_path: Path, server: str, artifacts: str) -> None:
    text = problem(server, artifacts, tmp_path)
    assert text is not None
    assert text.startswith(f"MLflow at {server} keeps files in /")
    assert "--serve-artifacts" in text
    assert "\n" not in text

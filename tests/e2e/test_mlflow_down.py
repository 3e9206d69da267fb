"""MLflow is away for a whole run: the run is the same, and MLflow catches up later. All of it is the real thing."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from answers import Command
from shown import ShownRun, shown_runs

if TYPE_CHECKING:
    from mlflow_server import MlflowServer

pytestmark = pytest.mark.slow

SPEC = """
name: tiny
backbone: deit_pico
budget: {unit: share, high: 0.35}
precision: float32
dispatcher: inline
sampler: random
fidelity:
  evaluations: 3
  finalists: 1
  dense: {epochs: 2, images_per_epoch: 192}
  supernet_training: {epochs: 1, images_per_epoch: 192}
  finetune: {epochs: 1, images_per_epoch: 128}
"""


def looks(runs: dict[tuple[str, str], ShownRun]) -> dict[str, object]:
    """What people see, without clocks: those of two runs differ."""
    clocks = {"sparsesearch.created", "sparsesearch.synced"}
    timed = {"report.html"}  # says how long everything took
    seen: dict[str, object] = {}
    for (_, number), run in runs.items():
        metrics = {
            key: [(step, value) for step, _, value in points]
            for key, points in run.metrics.items()
            if key != "epoch_seconds"
        }
        tags = {key: value for key, value in run.tags.items() if key not in clocks}
        files = {name: "" if name in timed else content for name, content in run.files.items()}
        seen[number] = (run.name, run.status, tags, run.params, metrics, files)
    return seen


@pytest.mark.timeout(1500)
def test_nothing_is_lost(
    program: Command, mlflow_server: MlflowServer, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("study.yaml").write_text(SPEC, encoding="utf-8")
    with_it = program("run", "study.yaml", "--json", "--output", "with-it", timeout=900)
    assert with_it.code == 0, with_it.err
    assert "mlflow sync" not in with_it.err
    assert "up to date" in program("mlflow", "sync").out

    from sparsesearch.app.tracker import mlflow_address
    from sparsesearch.settings import Settings
    from sparsesearch.tracking.connection import connect

    local = shown_runs(connect(mlflow_address(Settings.from_environment())).client)

    # A second home, to which no MLflow answers; it only takes over the trainings that studies share.
    other = home.with_name("other-home")
    shutil.copytree(home / "cache", other / "cache")
    monkeypatch.setenv("SPARSESEARCH_HOME", str(other))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server.uri)
    without = program("run", "study.yaml", "--json", "--output", "without", timeout=900)
    assert without.code == 0, without.err
    assert without.document["best"] == with_it.document["best"]
    assert Path("without/best.yaml").read_text() == Path("with-it/best.yaml").read_text()
    said = [line for line in without.err.splitlines() if "mlflow sync" in line]
    assert len(said) == 1
    assert f"{len(local)} runs of study tiny not yet synced to MLflow (MLflow at {mlflow_server.uri}" in said[0]
    assert said[0].endswith("mlflow sync tiny")
    assert "Traceback" not in without.err

    assert "does not respond" in program("mlflow", "sync", "tiny").complaint

    mlflow_server.start()
    assert f"{len(local)} runs created" in program("mlflow", "sync", "tiny").out
    caught_up = shown_runs(mlflow_server.client)
    assert looks(caught_up) == looks(local)
    assert "tiny: up to date" in program("mlflow", "sync", "tiny").out
    assert shown_runs(mlflow_server.client) == caught_up


def test_without_mlflow_nothing_of_it_is_made(program: Command, home: Path) -> None:
    Path("study.yaml").write_text(SPEC, encoding="utf-8")
    done = program("run", "study.yaml", "--no-mlflow", timeout=900)
    assert done.code == 0, done.err
    assert "ui" not in done.err.split()
    assert [path.name for path in home.iterdir() if "mlflow" in path.name] == []

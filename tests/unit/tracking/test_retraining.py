"""A retraining in a real MLflow: a run under that of its study, which syncing leaves alone."""

from __future__ import annotations

from pathlib import Path

import pytest
from sample_study import run_sample, sample_spec

from sparsesearch.app.tracker import mlflow_address, study_sync
from sparsesearch.errors import TrackingError
from sparsesearch.settings import Settings
from sparsesearch.store.sql import open_store
from sparsesearch.tracking.connection import Address, connect
from sparsesearch.tracking.progress_metrics import Point
from sparsesearch.tracking.retraining import RetrainingRecord, RetrainingRun


def record(study: str = "sample") -> RetrainingRecord:
    return RetrainingRecord(
        study=study,
        name="retrain 3:137",
        params={"backbone": "deit_s"},
        start_ms=1_780_000_000_000,
        warnings=("it is a demo",),
    )


def model_file(folder: Path) -> Path:
    model = folder / "model.safetensors"
    model.write_bytes(b"weights")
    return model


def points(*epochs: int) -> list[Point]:
    return [Point("train_loss", 1 / epoch, epoch, 1_780_000_000_000 + epoch) for epoch in epochs]


def test_a_retraining_is_shown_under_its_study(settings: Settings, tmp_path: Path) -> None:
    address, store = mlflow_address(settings), open_store(settings.database_url)
    run_sample(store, sample_spec())
    study_sync(store, settings, "sample").run(is_live=False)
    begun = RetrainingRun(address, record())
    begun.log(points(1))
    client = connect(address).client
    run = client.get_run(begun.id)
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "sample"
    assert (run.info.run_name, run.info.status) == ("retrain 3:137", "RUNNING")
    assert run.data.metrics == {"train_loss": 1.0}
    again = RetrainingRun(address, record(), run=begun.id)
    again.log(points(1, 2))
    metrics = {"test_top1": 0.9, "gmacs": 2.0}
    again.finish(metrics, files=(model_file(tmp_path),), end_ms=1_780_000_060_000)
    assert again.id == begun.id
    run = client.get_run(begun.id)
    assert (run.info.status, run.info.start_time, run.info.end_time) == (
        "FINISHED",
        1_780_000_000_000,
        1_780_000_060_000,
    )
    assert run.data.metrics == {**metrics, "train_loss": 0.5}
    history = client.get_metric_history(begun.id, "train_loss")
    assert [(point.step, point.value) for point in history] == [(1, 1.0), (2, 0.5)]
    assert (run.data.tags["study"], run.data.tags["fidelity"]) == ("sample", "retrain")
    assert run.data.tags["warning"] == "it is a demo"
    assert [item.path for item in client.list_artifacts(begun.id)] == ["model.safetensors"]
    changes = study_sync(store, settings, "sample").run(is_live=False)
    assert (changes.created, changes.changed, changes.removed) == (0, 0, 0)
    assert client.get_run(begun.id).info.lifecycle_stage == "active"
    client.delete_run(begun.id)
    assert RetrainingRun(address, record(), run=begun.id).id != begun.id


def test_of_a_study_that_mlflow_does_not_have(settings: Settings) -> None:
    address = mlflow_address(settings)
    run = connect(address).client.get_run(RetrainingRun(address, record(study="it's gone")).id)
    assert "mlflow.parentRunId" not in run.data.tags


def test_without_an_mlflow(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="does not respond"):
        RetrainingRun(Address(uri="http://127.0.0.1:9", artifacts=tmp_path), record())

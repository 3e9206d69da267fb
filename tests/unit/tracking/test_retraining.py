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
from sparsesearch.tracking.retraining import RetrainingRecord, log_retraining


def record(folder: Path, study: str = "sample") -> RetrainingRecord:
    model = folder / "model.safetensors"
    model.write_bytes(b"weights")
    return RetrainingRecord(
        study=study,
        name="retrain 3:137",
        params={"backbone": "deit_s"},
        metrics={"test_top1": 0.9, "gmacs": 2.0},
        files=(model,),
        start_ms=1_780_000_000_000,
        end_ms=1_780_000_060_000,
        warnings=("it is a demo",),
    )


def test_a_retraining_is_shown_under_its_study(settings: Settings, tmp_path: Path) -> None:
    address, store = mlflow_address(settings), open_store(settings.database_url)
    run_sample(store, sample_spec())
    study_sync(store, settings, "sample").run(is_live=False)
    number = log_retraining(address, record(tmp_path))
    client = connect(address).client
    run = client.get_run(number)
    parent = client.get_run(run.data.tags["mlflow.parentRunId"])
    assert parent.info.run_name == "sample"
    assert (run.info.run_name, run.info.status) == ("retrain 3:137", "FINISHED")
    assert (run.info.start_time, run.info.end_time) == (1_780_000_000_000, 1_780_000_060_000)
    assert run.data.metrics == {"test_top1": 0.9, "gmacs": 2.0}
    assert (run.data.tags["study"], run.data.tags["fidelity"]) == ("sample", "retrain")
    assert run.data.tags["warning"] == "it is a demo"
    assert [item.path for item in client.list_artifacts(number)] == ["model.safetensors"]
    changes = study_sync(store, settings, "sample").run(is_live=False)
    assert (changes.created, changes.changed, changes.removed) == (0, 0, 0)
    assert client.get_run(number).info.lifecycle_stage == "active"


def test_of_a_study_that_mlflow_does_not_have(settings: Settings, tmp_path: Path) -> None:
    address = mlflow_address(settings)
    run = connect(address).client.get_run(log_retraining(address, record(tmp_path, study="it's gone")))
    assert "mlflow.parentRunId" not in run.data.tags


def test_without_an_mlflow(tmp_path: Path) -> None:
    with pytest.raises(TrackingError, match="does not respond"):
        log_retraining(Address(uri="http://127.0.0.1:9", artifacts=tmp_path), record(tmp_path))

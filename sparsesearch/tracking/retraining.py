"""Show a retraining in MLflow, with the trained model as an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsesearch.errors import TrackingError
from sparsesearch.study.trial import Fidelity
from sparsesearch.tracking.connection import Address, connect, mlflow_errors, wrap_error
from sparsesearch.tracking.files import artifact_problem
from sparsesearch.tracking.records import FIDELITY_LABEL, STUDY_LABEL, STUDY_TAG, TRIAL_TAG, WARNING_LABEL

if TYPE_CHECKING:
    from mlflow import MlflowClient


@dataclass(frozen=True)
class RetrainingRecord:
    """A finished retraining.

    Attributes:
        study: Name of the study that found the schedule.
        name: Display name of the run.
        params: Its parameters.
        metrics: Its metrics.
        files: The trained model and other files to store with the run.
        start_ms: Start time, in milliseconds since 1970.
        end_ms: End time.
        warnings: Warnings to show next to every accuracy.
    """

    study: str
    name: str
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    files: tuple[Path, ...]
    start_ms: int
    end_ms: int
    warnings: tuple[str, ...] = ()


def log_retraining(address: Address, record: RetrainingRecord) -> str:
    """Create the run of a retraining, nested under the run of its study if MLflow has that.

    A retraining is not in the study database, so `mlflow sync` neither restores nor changes its run.

    Returns:
        The id of the run.

    Raises:
        TrackingError: MLflow does not respond, raises an error, or cannot store files from this machine.
    """
    connection = connect(address)
    from mlflow.entities import Metric, Param, RunTag

    client, experiment = connection.client, connection.experiment_id
    try:
        parent = _run_of_study(client, experiment, record.study)
        tags = {STUDY_LABEL: record.study, FIDELITY_LABEL: Fidelity.RETRAIN.value}
        tags |= {"mlflow.source.name": "sparsesearch", "mlflow.source.type": "LOCAL"}
        tags |= {WARNING_LABEL: "; ".join(record.warnings)} if record.warnings else {}
        tags |= {} if parent is None else {"mlflow.parentRunId": parent}
        run = client.create_run(experiment, start_time=record.start_ms, tags=tags, run_name=record.name)
        number = run.info.run_id
        warnings = "".join(f"\n\n> **Note: {warning}.**" for warning in record.warnings)
        note = f"`{record.files[0].name}`, among the artifacts, is the trained sparse model.{warnings}"
        client.log_batch(
            number,
            metrics=[Metric(name, value, record.end_ms, 0) for name, value in record.metrics.items()],
            params=[Param(name, value) for name, value in record.params.items()],
            tags=[RunTag("mlflow.note.content", note)],
        )
        problem = artifact_problem(address, client, number)
        for file in record.files if problem is None else ():
            client.log_artifact(number, str(file))
        client.set_terminated(number, status="FINISHED", end_time=record.end_ms)
        if problem is not None:
            raise TrackingError(problem)
    except mlflow_errors() as error:
        raise wrap_error(address, error) from error
    return str(number)


def _run_of_study(client: MlflowClient, experiment: str, study: str) -> str | None:
    """The id of the newest run of a study of this name, None if there is none."""
    escaped = study.replace("'", "''")
    runs = client.search_runs(
        [experiment], filter_string=f"tags.`{STUDY_TAG}` = '{escaped}'", order_by=["attributes.start_time DESC"]
    )
    return next((str(run.info.run_id) for run in runs if TRIAL_TAG not in run.data.tags), None)

"""Show a retraining in MLflow while it trains, at the end with the trained model as an artifact."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsesearch.errors import TrackingError
from sparsesearch.study.trial import Fidelity
from sparsesearch.tracking.connection import Address, connect, mlflow_errors, wrap_error
from sparsesearch.tracking.files import artifact_problem
from sparsesearch.tracking.progress_metrics import Point
from sparsesearch.tracking.records import FIDELITY_LABEL, STUDY_LABEL, STUDY_TAG, TRIAL_TAG, WARNING_LABEL

if TYPE_CHECKING:
    from mlflow import MlflowClient


_NOT_IN_MODEL_NAMES = str.maketrans("/:.%\"'", "------")


@dataclass(frozen=True)
class RetrainingRecord:
    """A retraining that begins.

    Attributes:
        study: Name of the study that found the schedule.
        name: Display name of the run.
        params: Its parameters.
        start_ms: Start time, in milliseconds since 1970.
        warnings: Warnings to show next to every accuracy.
    """

    study: str
    name: str
    params: Mapping[str, str]
    start_ms: int
    warnings: tuple[str, ...] = ()


class RetrainingRun:
    """The run of a retraining, nested under the run of its study if MLflow has that.

    A retraining is not in the study database, so `mlflow sync` neither restores nor changes its run.

    Args:
        address: Where MLflow is.
        record: The retraining.
        run: Id of the run if it was begun before; if it is gone, another one is created.

    Attributes:
        id: The id of the run.

    Raises:
        TrackingError: MLflow does not respond, or raises an error. The methods raise it too.
    """

    def __init__(self, address: Address, record: RetrainingRecord, *, run: str | None = None) -> None:
        self._address = address
        self._record = record
        connection = connect(address)
        self._client, experiment = connection.client, connection.experiment_id
        try:
            if run is not None and _is_there(self._client, run):
                self.id = run
                return
            self.id = self._created(experiment)
        except mlflow_errors() as error:
            raise wrap_error(address, error) from error

    def log(self, points: Sequence[Point]) -> None:
        """Log metrics."""
        from mlflow.entities import Metric

        try:
            metrics = [Metric(point.key, point.value, point.time_ms, point.step) for point in points]
            self._client.log_batch(self.id, metrics=metrics)
        except mlflow_errors() as error:
            raise wrap_error(self._address, error) from error

    def finish(self, metrics: Mapping[str, float], *, files: Sequence[Path], end_ms: int) -> None:
        """End the run.

        Args:
            metrics: Its last metrics.
            files: The trained model and other files to store with the run.
            end_ms: End time, in milliseconds since 1970.
        """
        warnings = "".join(f"\n\n> **Note: {warning}.**" for warning in self._record.warnings)
        note = f"`{files[0].name}`, among the artifacts, is the trained sparse model.{warnings}"
        self.log([Point(name, value, 0, end_ms) for name, value in metrics.items()])
        try:
            self._client.set_tag(self.id, "mlflow.note.content", note)
            problem = artifact_problem(self._address, self._client, self.id)
            for file in files if problem is None else ():
                self._client.log_artifact(self.id, str(file))
            if problem is None:
                self._register(files[0].name, metrics)
            self._client.set_terminated(self.id, status="FINISHED", end_time=end_ms)
            if problem is not None:
                raise TrackingError(problem)
        except mlflow_errors() as error:
            raise wrap_error(self._address, error) from error

    def _register(self, file: str, metrics: Mapping[str, float]) -> None:
        """Add the trained model to MLflow's registry, as a version of the model that is named after its study."""
        from mlflow.exceptions import MlflowException

        name = self._record.study.translate(_NOT_IN_MODEL_NAMES)
        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise
        tags = {key: f"{value:.6g}" for key, value in metrics.items()}
        self._client.create_model_version(name, source=f"runs:/{self.id}/{file}", run_id=self.id, tags=tags)

    def _created(self, experiment: str) -> str:
        from mlflow.entities import Param

        record = self._record
        parent = _run_of_study(self._client, experiment, record.study)
        tags = {STUDY_LABEL: record.study, FIDELITY_LABEL: Fidelity.RETRAIN.value}
        tags |= {"mlflow.source.name": "sparsesearch", "mlflow.source.type": "LOCAL"}
        tags |= {WARNING_LABEL: "; ".join(record.warnings)} if record.warnings else {}
        tags |= {} if parent is None else {"mlflow.parentRunId": parent}
        run = self._client.create_run(experiment, start_time=record.start_ms, tags=tags, run_name=record.name)
        self._client.log_batch(run.info.run_id, params=[Param(name, value) for name, value in record.params.items()])
        return str(run.info.run_id)


def _is_there(client: MlflowClient, run: str) -> bool:
    """Whether a run exists and is not deleted."""
    from mlflow.exceptions import MlflowException

    try:
        return str(client.get_run(run).info.lifecycle_stage) == "active"
    except MlflowException:
        return False


def _run_of_study(client: MlflowClient, experiment: str, study: str) -> str | None:
    """The id of the newest run of a study of this name, None if there is none."""
    escaped = study.replace("'", "''")
    runs = client.search_runs(
        [experiment], filter_string=f"tags.`{STUDY_TAG}` = '{escaped}'", order_by=["attributes.start_time DESC"]
    )
    return next((str(run.info.run_id) for run in runs if TRIAL_TAG not in run.data.tags), None)

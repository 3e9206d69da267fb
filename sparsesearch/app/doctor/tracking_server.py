"""MLflow: it answers, and studies can be written to it."""

from __future__ import annotations

import os
from pathlib import Path

from sqlalchemy.engine import make_url

from sparsesearch.app.doctor.finding import FailedCheckError, Surroundings
from sparsesearch.app.tracker import mlflow_address
from sparsesearch.tracking.connection import VIEW_TAG, connect, mlflow_errors, wrap_error


def mlflow(surroundings: Surroundings) -> str:
    """Connect to MLflow and set a tag of the experiment to the value that it has; our own database is not created."""
    address = mlflow_address(surroundings.settings)
    if address.is_ours and not Path(str(make_url(address.uri).database)).exists():
        return f"{address.shown} does not exist yet; the first study creates it"
    connection = connect(address)
    try:
        experiment = connection.client.get_experiment(connection.experiment_id)
        connection.client.set_experiment_tag(
            connection.experiment_id, VIEW_TAG, str((experiment.tags or {}).get(VIEW_TAG, ""))
        )
    except mlflow_errors() as error:
        raise wrap_error(address, error) from error
    if not address.is_server and address.artifacts.exists() and not os.access(address.artifacts, os.W_OK | os.X_OK):
        raise FailedCheckError(
            f"{address.artifacts}, where MLflow's files are kept, is not writable",
            fix=f"make it writable: chmod u+rwx {address.artifacts}",
        )
    return f"{address.shown}, experiment {experiment.name}, can be written"

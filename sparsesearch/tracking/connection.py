"""The way to MLflow: a client, and the experiment that all studies are in."""

from __future__ import annotations

import os
import socket
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sparsesearch.errors import TrackingError, one_line

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "sparsesearch"
_EXPERIMENT_TAGS = {
    "mlflow.experimentKind": "custom_model_development",  # the pages for trainings, not those for chat applications
    "mlflow.note.content": (
        "A run is a study, the runs below it are its trainings. Open a study, then **Artifacts / front.html**."
    ),
}
_KNOCK_SECONDS = 3.0

# What MLflow takes from the environment only; what the user has set stays. It shall not retry by itself, since the
# sync does and the end of a run waits for it; it shall not write to standard output, which belongs to results;
# and it shall not report to its makers that a study is run.
_MLFLOW_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}


@dataclass(frozen=True)
class Connection:
    """An MLflow that has answered.

    Attributes:
        client: Its client; no fluent, global state is used.
        experiment_id: The experiment that all studies are in.
    """

    client: MlflowClient
    experiment_id: str


@dataclass(frozen=True)
class Address:
    """Where an MLflow is.

    Attributes:
        uri: `http://...` of a server, or the url of a database.
        artifacts: Folder for artifacts where no server keeps them.
        is_ours: Whether it is a database of our own, in the home of sparsesearch.
    """

    uri: str
    artifacts: Path
    is_ours: bool = False

    @property
    def is_server(self) -> bool:
        """Whether it is reached over HTTP, and keeps artifacts itself."""
        return urlsplit(self.uri).scheme in ("http", "https")

    @property
    def shown(self) -> str:
        """The address without a password."""
        if self.is_server:
            parts = urlsplit(self.uri)
            place = parts.netloc.rpartition("@")[2]
            return urlunsplit((parts.scheme, place, parts.path.rstrip("/"), "", ""))
        try:
            return make_url(self.uri).render_as_string(hide_password=True)
        except ArgumentError:
            return self.uri


def connect(address: Address) -> Connection:
    """Reach an MLflow and find its experiment, or make it.

    Raises:
        TrackingError: It does not answer, or refuses.
    """
    if address.is_server:
        _knock(address)
    elif urlsplit(address.uri).scheme in ("", "file"):
        raise TrackingError(
            f"MLflow keeps no studies in plain folders any more ({address.uri}); unset MLFLOW_TRACKING_URI, "
            "or set it to sqlite:///PATH or to the http:// address of a server"
        )
    if address.is_ours:
        prepare_database(address)
    apply_environment()
    from mlflow import MlflowClient

    try:
        client = MlflowClient(address.uri)
        return Connection(client, _experiment(client, address))
    except mlflow_errors() as error:
        raise refusal(address, error) from error


def mlflow_errors() -> tuple[type[Exception], ...]:
    """What MLflow, and what lies under it, raise when something is wrong with it and not with us."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    return TrackingError, MlflowException, RequestException, SQLAlchemyError, CommandError, sqlite3.Error, OSError


def apply_environment() -> None:
    """Set what MLflow reads from the environment, where the user has not; before it is imported."""
    for name, value in _MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def refusal(address: Address, error: Exception) -> TrackingError:
    """One line for one of `mlflow_errors`."""
    if isinstance(error, TrackingError):
        return error
    return TrackingError(f"MLflow at {address.shown} fails: {one_line(error)}")


def _knock(address: Address) -> None:
    """Fails within seconds where MLflow's own client would try for minutes."""
    parts = urlsplit(address.uri)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.hostname is None or port == 0:
        raise TrackingError(f"{address.shown!r} is no address of MLflow; set MLFLOW_TRACKING_URI to http://HOST:PORT")
    try:
        socket.create_connection((parts.hostname, port), timeout=_KNOCK_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise TrackingError(f"MLflow at {address.shown} does not answer ({reason.lower()})") from error


def prepare_database(address: Address) -> None:
    """Give our own database a write-ahead log, for good: commits cost a third, and people may look while it grows."""
    path = make_url(address.uri).database
    assert path, "our own database is a file"
    try:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except (OSError, sqlite3.Error) as error:
        raise refusal(address, error) from error


def _experiment(client: MlflowClient, address: Address) -> str:
    """MLflow's working directory is nobody's: artifacts go where a server says, else into our own folder."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        location = None if address.is_server else address.artifacts.resolve().as_uri()
        return str(client.create_experiment(EXPERIMENT, artifact_location=location, tags=_EXPERIMENT_TAGS))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    return str(found.experiment_id)

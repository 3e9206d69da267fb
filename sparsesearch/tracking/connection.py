"""Connect to MLflow: a client, and the experiment that contains all studies."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies, proxy_bypass

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from sparsesearch.errors import TrackingError, one_line
from sparsesearch.files.durable import create_private
from sparsesearch.redact import without_password
from sparsesearch.study.metric import VAL_TOP1
from sparsesearch.tracking.file_lock import FileLock

if TYPE_CHECKING:
    from mlflow import MlflowClient

EXPERIMENT = "sparsesearch"
VIEW_KEY = "sparsesearch"
"""Name of a view of the table of runs, for `viewStateShareKey` in its address."""
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
_VIEW_COLUMNS = (
    "attributes.`Created`",
    f"metrics.`{VAL_TOP1.name}`",
    "metrics.`gmacs`",
    "metrics.`of_dense`",
    "params.`backbone`",
    "params.`budget`",
)
_VIEW = json.dumps({"selectedColumns": _VIEW_COLUMNS, "runsExpanded": {}})
_EXPERIMENT_TAGS = {
    VIEW_TAG: _VIEW,
    "mlflow.experimentKind": "custom_model_development",  # show the pages for trainings, not for chat applications
    "mlflow.note.content": (
        "Each run is a study, and its child runs are trainings. Open a study, then **Artifacts / front.html**."
    ),
}
_CONNECT_SECONDS = 3.0
_LONGEST = 300

# Settings that MLflow reads only from the environment; variables that the user has set are kept. MLflow must not retry,
# since the sync does and the end of a run waits for it; it must not write to standard output, which is for results; and
# it must not send telemetry.
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
    """A connection to MLflow.

    Attributes:
        client: The MLflow client; the global state of MLflow's fluent API is not used.
        experiment_id: The experiment that contains all studies.
    """

    client: MlflowClient
    experiment_id: str


@dataclass(frozen=True)
class Address:
    """The address of an MLflow tracking server or database.

    Attributes:
        uri: `http://...` of a server, or the URL of a database.
        artifacts: Folder for artifacts, if no server stores them.
        is_ours: Whether it is sparsesearch's own database in its home folder.
    """

    uri: str
    artifacts: Path
    is_ours: bool = False

    @property
    def is_server(self) -> bool:
        """Whether it is an HTTP server, which stores artifacts itself."""
        return urlsplit(self.uri).scheme in ("http", "https")

    @property
    def shown(self) -> str:
        """The address for display, without password."""
        if self.is_server:
            parts = urlsplit(self.uri)
            host = parts.netloc.rpartition("@")[2]
            return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
        try:
            return without_password(make_url(self.uri).render_as_string(hide_password=True))
        except ArgumentError:
            return without_password(self.uri)


def connect(address: Address) -> Connection:
    """Connect to MLflow, and find or create its experiment.

    Raises:
        TrackingError: MLflow does not respond, or raises an error.
    """
    if address.is_server:
        _check_reachable(address)
    elif urlsplit(address.uri).path.startswith("databricks") or urlsplit(address.uri).scheme.startswith("databricks"):
        raise TrackingError(
            f"MLflow on Databricks (MLFLOW_TRACKING_URI={address.uri}) is not supported; set MLFLOW_TRACKING_URI to "
            "sqlite:///PATH or to the http:// address of a server, or use --no-mlflow"
        )
    elif urlsplit(address.uri).scheme in ("", "file"):
        raise TrackingError(
            f"MLflow no longer supports folders as tracking URI ({address.uri}); unset MLFLOW_TRACKING_URI, "
            "or set it to sqlite:///PATH or to the http:// address of a server"
        )
    if address.is_ours:
        prepare_database(address)
    apply_environment()
    from mlflow import MlflowClient

    try:
        with _alone(address):
            client = MlflowClient(address.uri)
            return Connection(client, _experiment(client, address))
    except mlflow_errors() as error:
        raise wrap_error(address, error) from error


def mlflow_errors() -> tuple[type[Exception], ...]:
    """Return the exception types that MLflow and its dependencies raise when MLflow is not usable."""
    from alembic.util import CommandError
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    return (
        TrackingError,
        MlflowException,
        RequestException,
        SQLAlchemyError,
        CommandError,
        sqlite3.Error,
        OSError,
        json.JSONDecodeError,  # an answer that is not MLflow's, such as the page of a proxy
    )


def apply_environment() -> None:
    """Set MLflow's environment variables that the user has not set. Must be called before MLflow is imported."""
    for name, value in _MLFLOW_ENVIRONMENT.items():
        os.environ.setdefault(name, value)


def wrap_error(address: Address, error: Exception) -> TrackingError:
    """Convert one of `mlflow_errors` to a `TrackingError` with a one-line message."""
    if isinstance(error, TrackingError):
        return error
    if isinstance(error, json.JSONDecodeError) or "not in a valid JSON format" in str(error):
        return TrackingError(_not_mlflow(address))
    return TrackingError(f"MLflow at {address.shown} failed: {one_line(error)[:_LONGEST]}")


def _check_reachable(address: Address) -> None:
    """Check that the server accepts connections; MLflow's client would retry for minutes."""
    parts = urlsplit(address.uri)
    try:
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError:
        port = 0
    if parts.hostname is None or port == 0:
        raise TrackingError(f"invalid MLflow address {address.shown!r}; set MLFLOW_TRACKING_URI to http://HOST:PORT")
    host, name = parts.hostname, f"MLflow at {address.shown}"
    proxy = None if proxy_bypass(parts.netloc.rpartition("@")[2]) else getproxies().get(parts.scheme)
    if proxy:
        through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
        host, port = through.hostname or host, through.port or 80
        name = f"the proxy {host}:{port} on the way to MLflow at {address.shown}"
    try:
        socket.create_connection((host, port), timeout=_CONNECT_SECONDS).close()
    except OSError as error:
        reason = error.strerror or str(error) or type(error).__name__
        raise TrackingError(f"{name} does not respond ({reason.lower()})") from error


def _not_mlflow(address: Address) -> str:
    return (
        f"what answers at {address.shown} is not MLflow, but perhaps a proxy or a login page; check MLFLOW_TRACKING_URI"
    )


@contextmanager
def _alone(address: Address) -> Iterator[None]:
    """Exclude other processes while our own database gets its tables and its experiment, which MLflow does not."""
    if not address.is_ours:
        yield
        return
    with FileLock(address.artifacts.parent / "mlflow-turns" / ".connect.lock").acquire():
        yield


def prepare_database(address: Address) -> None:
    """Enable write-ahead logging in our own database: commits are three times as fast, and reads do not block."""
    path = make_url(address.uri).database
    assert path, "our own database is a file"
    try:
        create_private(Path(path))
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
    except (OSError, sqlite3.Error) as error:
        raise wrap_error(address, error) from error


def _experiment(client: MlflowClient, address: Address) -> str:
    """Find or create the experiment, with artifacts on the server or, without one, in our own folder."""
    found = client.get_experiment_by_name(EXPERIMENT)
    if found is None:
        location = None if address.is_server else address.artifacts.resolve().as_uri()
        return str(client.create_experiment(EXPERIMENT, artifact_location=location, tags=_EXPERIMENT_TAGS))
    if found.name != EXPERIMENT:  # an empty answer reads as an experiment without a name
        raise TrackingError(_not_mlflow(address))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    if found.tags.get(VIEW_TAG) != _VIEW:
        client.set_experiment_tag(found.experiment_id, VIEW_TAG, _VIEW)
    return str(found.experiment_id)

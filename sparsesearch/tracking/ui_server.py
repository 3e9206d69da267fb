"""MLflow's own pages, served to this machine only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from types import FrameType, TracebackType

from sparsesearch.errors import TrackingError
from sparsesearch.tracking.connection import EXPERIMENT, Address, apply_environment, prepare_database

HOST = "127.0.0.1"
DEFAULT_PORT = 5000
START_SECONDS = 120.0
_STOP_SECONDS = 10.0


class UiServer:
    """`mlflow server` as a child process, as a context manager; it and all that it started end with the context.

    Args:
        address: The database to show.
        port: Where to listen, None for 5000 or, if that is taken, a free one.

    Raises:
        TrackingError: The port is taken, or the server does not start.
    """

    def __init__(self, address: Address, *, port: int | None = None) -> None:
        self._address = address
        self._port = _free_port(port)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._process: subprocess.Popen[bytes] | None = None
        self._root = f"http://{HOST}:{self._port}"
        self._experiment: str | None = None

    @property
    def url(self) -> str:
        """The page that lists all studies."""
        if self._experiment is None:
            return self._root
        return f"{self._root}/#/experiments/{self._experiment}/runs?workflowType=machine_learning"

    def wait(self) -> int:
        """Until the server stops by itself; its exit code."""
        assert self._process is not None, "used as a context manager"
        return self._process.wait()

    def __enter__(self) -> UiServer:
        if self._address.is_ours:
            prepare_database(self._address)
        apply_environment()
        # The address by the environment: it may hold a password, and everybody can read command lines.
        settings = {
            "MLFLOW_BACKEND_STORE_URI": self._address.uri,
            "MLFLOW_ARTIFACTS_DESTINATION": self._address.artifacts.resolve().as_uri(),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        }
        command = [sys.executable, "-m", "mlflow", "server", "--host", HOST, "--port", str(self._port)]
        command += ["--workers", "1"]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **settings},
            start_new_session=True,  # its workers are ended with it, and Ctrl-C is ours to pass on
        )
        self._on_sigterm = signal.signal(signal.SIGTERM, _as_interrupt)
        try:
            self._wait_for_answer(self._process)
            self._experiment = self._find_experiment()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _wait_for_answer(self, process: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            if process.poll() is not None:
                raise TrackingError(f"MLflow's server does not start: {self._last_words()}")
            try:
                with urllib.request.urlopen(f"{self._root}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise TrackingError(f"MLflow's server does not answer after {START_SECONDS:g} s: {self._last_words()}")

    def _find_experiment(self) -> str | None:
        """The experiment that studies are in, None before the first study was shown."""
        query = f"{self._root}/api/2.0/mlflow/experiments/get-by-name?experiment_name={EXPERIMENT}"
        try:
            with urllib.request.urlopen(query, timeout=_STOP_SECONDS) as answer:
                return str(json.load(answer)["experiment"]["experiment_id"])
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise TrackingError(f"MLflow's server answers with an error: {error}") from error

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "it says nothing"

    def _stop(self) -> None:
        process = self._process
        assert process is not None, "used as a context manager"
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
            except ProcessLookupError:
                break
            try:
                process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                continue
        self._log.close()
        signal.signal(signal.SIGTERM, self._on_sigterm)


def _as_interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _free_port(requested: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, requested or DEFAULT_PORT))
            return requested or DEFAULT_PORT
        except OSError as error:
            if requested is not None:
                raise TrackingError(
                    f"port {requested} is taken; choose another with --port, or leave it out"
                ) from error
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])

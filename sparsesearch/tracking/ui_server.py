"""Serve MLflow's pages to this machine only."""

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
from sparsesearch.tracking.connection import (
    EXPERIMENT,
    VIEW_KEY,
    VIEW_TAG,
    Address,
    apply_environment,
    prepare_database,
)

HOST = "127.0.0.1"
DEFAULT_PORT = 5000
START_SECONDS = 120.0
_STOP_SECONDS = 10.0


class UiServer:
    """Runs `mlflow server` as a child process, as a context manager; its processes end with the context.

    Args:
        address: The database to show.
        port: Port, None for 5000 or, if that is in use, a free port.

    Raises:
        TrackingError: The port is in use, or the server does not start.
    """

    def __init__(self, address: Address, *, port: int | None = None) -> None:
        self._address = address
        self._port = _free_port(port)
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the server
        self._process: subprocess.Popen[bytes] | None = None
        self._root = f"http://{HOST}:{self._port}"
        self._experiment: tuple[str, bool] | None = None

    @property
    def url(self) -> str:
        """URL of the page that lists all studies."""
        if self._experiment is None:
            return self._root
        number, has_view = self._experiment
        view = f"&viewStateShareKey={VIEW_KEY}" if has_view else ""
        return f"{self._root}/#/experiments/{number}/runs?workflowType=machine_learning{view}"

    def wait(self) -> int:
        """Wait until the server stops by itself, and return its exit code."""
        assert self._process is not None, "use as a context manager"
        return self._process.wait()

    def __enter__(self) -> UiServer:
        if self._address.is_ours:
            prepare_database(self._address)
        apply_environment()
        # The address is passed by the environment, since it may contain a password and command lines are public.
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
            start_new_session=True,  # so that its workers can be ended with it, and Ctrl-C reaches only this process
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
                raise TrackingError(f"the MLflow server failed to start: {self._last_log_line()}")
            try:
                with urllib.request.urlopen(f"{self._root}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise TrackingError(f"the MLflow server did not respond for {START_SECONDS:g} s: {self._last_log_line()}")

    def _find_experiment(self) -> tuple[str, bool] | None:
        """Return the experiment of the studies and whether it has our view of runs, None if no study was logged yet."""
        query = f"{self._root}/api/2.0/mlflow/experiments/get-by-name?experiment_name={EXPERIMENT}"
        try:
            with urllib.request.urlopen(query, timeout=_STOP_SECONDS) as answer:
                found = json.load(answer)["experiment"]
                return str(found["experiment_id"]), any(tag["key"] == VIEW_TAG for tag in found.get("tags", ()))
        except urllib.error.HTTPError as error:
            if error.code == HTTPStatus.NOT_FOUND:
                return None
            raise TrackingError(f"the MLflow server returned an error: {error}") from error

    def _last_log_line(self) -> str:
        self._log.seek(0)
        lines = [line.strip() for line in self._log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else "no output"

    def _stop(self) -> None:
        process = self._process
        assert process is not None, "use as a context manager"
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
                    f"port {requested} is in use; choose another with --port, or leave it out"
                ) from error
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])

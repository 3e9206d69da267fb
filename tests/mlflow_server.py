"""A real MLflow server on a free port of this machine, started and stopped by a test."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mlflow import MlflowClient

START_SECONDS = 180.0


class MlflowServer:
    """`mlflow server` over a database in a folder, whose tables are there.

    Args:
        folder: Holds `mlflow.db`, and gets the artifacts.
        host: Address to listen on; with 127.0.0.2, clients take it for another machine.
        serves_artifacts: Whether clients send it artifacts; otherwise it gives them the path of a folder of its own.
    """

    def __init__(self, folder: Path, *, host: str = "127.0.0.1", serves_artifacts: bool = True) -> None:
        self._folder = folder
        self._host = host
        self._serves_artifacts = serves_artifacts
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind((host, 0))
            self._port = int(probe.getsockname()[1])

    @property
    def uri(self) -> str:
        """Its address, also while it is stopped."""
        return f"http://{self._host}:{self._port}"

    @property
    def client(self) -> MlflowClient:
        """Looks at what it holds."""
        from mlflow import MlflowClient

        return MlflowClient(self.uri)

    def start(self) -> None:
        """Start it and wait for its answer."""
        log = (self._folder / "log").open("ab")
        command = [sys.executable, "-m", "mlflow", "server", "--host", self._host, "--port", str(self._port)]
        command += ["--workers", "1", "--backend-store-uri", f"sqlite:///{self._folder / 'mlflow.db'}"]
        if self._host != "127.0.0.1":
            command += ["--allowed-hosts", f"{self._host}:{self._port}"]
        if self._serves_artifacts:
            command += ["--artifacts-destination", str(self._folder / "artifacts")]
        else:
            command += ["--no-serve-artifacts", "--default-artifact-root", str(self._folder / "of-the-server")]
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        self._process = subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, cwd=self._folder, start_new_session=True
        )
        until = time.monotonic() + START_SECONDS
        while time.monotonic() < until:
            assert self._process.poll() is None, (self._folder / "log").read_text()
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (urllib.error.URLError, OSError):
                time.sleep(0.2)
        raise AssertionError((self._folder / "log").read_text())

    def stop(self) -> None:
        """Stop it and all that it started."""
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(30)
        self._process = None

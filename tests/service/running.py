"""The parts of a service as processes of their own, started with the commands that a deployment uses."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import requests

from sparsesearch.service.client import ServiceClient

QUICK = {
    "backbone": "deit_pico",
    "budget": "35%",
    "data": {"source": "digits", "num_val_images": 120},
    "baselines": False,
    "fidelity": {
        "strategy": "training-free",
        "evaluations": 4,
        "dense": {"epochs": 2, "images_per_epoch": 256, "batch_size": 64},
    },
}
"""A document whose study takes some seconds."""

LONG = {**QUICK, "fidelity": {**QUICK["fidelity"], "dense": {"epochs": 200, "images_per_epoch": 256, "batch_size": 64}}}
"""The same with a dense training of minutes."""


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def until(condition: Callable[[], object], *, seconds: float = 120.0, what: str = "") -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds:g} s: {what}"
        time.sleep(0.2)


class Service:
    """A database with what runs on it.

    Args:
        home: Folder for files.
        database: URL of the database.
    """

    def __init__(self, home: Path, database: str) -> None:
        self.home = home
        self.environment = {
            **os.environ,
            "SPARSESEARCH_HOME": str(home),
            "SPARSESEARCH_DATABASE_URL": database,
            "OMP_NUM_THREADS": "1",
        }
        self.processes: list[subprocess.Popen[bytes]] = []
        home.mkdir(parents=True, exist_ok=True)

    def command(self, *arguments: str) -> str:
        """Run a command to its end and return what it prints."""
        done = subprocess.run(
            [sys.executable, "-m", "sparsesearch", *arguments],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def token(self, name: str, scope: str) -> str:
        secret: str = json.loads(self.command("token", "create", name, "--scope", scope, "--json"))["token"]
        return secret

    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a process of the service; its output goes to a file in the home."""
        log = (self.home / f"{arguments[0]}-{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "sparsesearch", *arguments],
            env=self.environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        log.close()
        self.processes.append(process)
        return process

    def serve(self, *arguments: str) -> str:
        """Start the API, and return its address when it answers."""
        port = free_port()
        process = self.start("serve", "--port", str(port), *arguments)
        address = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            assert process.poll() is None, self.logs()
            try:
                return requests.get(f"{address}/readyz", timeout=2).ok
            except requests.ConnectionError:
                return False

        until(answers, what="the API answers")
        return address

    def client(self, address: str, name: str, scope: str = "submit") -> ServiceClient:
        return ServiceClient(address, self.token(name, scope))

    def controller(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start("controller", "--no-mlflow", "--studies", "1", *arguments)

    def logs(self) -> str:
        """What all processes have printed."""
        files = sorted(self.home.glob("*.log")) + sorted(self.home.glob("logs/*.log"))
        return "\n".join(f"== {file.name}\n{file.read_text(errors='replace')[-4000:]}" for file in files)

    def stop(self) -> None:
        """End all processes."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(45)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@contextmanager
def running_service(home: Path, database: str) -> Iterator[Service]:
    service = Service(home, database)
    try:
        yield service
    finally:
        service.stop()


def state(client: ServiceClient, study: str) -> str:
    found: str = client.get(f"/studies/{study}").json()["state"]
    return found

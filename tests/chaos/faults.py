"""Faults, each of which really happens to a running study."""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from random import Random

from tests.chaos.study import Place, wait_until
from tests.chaos.tables import events, is_finished
from tests.postgres_server import PostgresServer, postgres_programs
from tests.processes import children
from tests.ray_nodes import two_nodes
from tests.small_disk import mounted_disk

NUM_EVENTS = 34
"""What `events` counts in a finished study, roughly; faults come anywhere before."""

Fault = Callable[[Place, Random], None]


class NotInstalledError(Exception):
    """What the fault needs is not on this machine."""


def _some_point(place: Place, rng: Random) -> subprocess.Popen[bytes]:
    """Start the study and wait until some part of it is stored, and then a moment."""
    process = place.start("run")
    wanted = rng.randint(0, NUM_EVENTS)
    if wait_until(process, lambda: events(place) >= wanted):
        time.sleep(rng.uniform(0.0, 1.0))
    return process


def driver_killed(place: Place, rng: Random) -> None:
    """Kill -9 of the driver, again and again."""
    process = _some_point(place, rng)
    for _ in range(rng.randint(1, 3)):
        process.kill()
        if place.finish(process) == 0:
            break
        process = place.start("resume")
        time.sleep(rng.uniform(3.0, 12.0))
    else:
        place.finish(process)
    place.resume_to_the_end()


def driver_stopped(place: Place, rng: Random) -> None:
    """The driver is stopped for a while, as by a laptop that sleeps."""
    process = _some_point(place, rng)
    process.send_signal(signal.SIGSTOP)
    time.sleep(rng.uniform(1.0, 8.0))
    process.send_signal(signal.SIGCONT)
    place.finish(process)
    place.resume_to_the_end()


def driver_terminated(place: Place, rng: Random) -> None:
    """SIGTERM or Ctrl-C, after which the process ends within 30 seconds."""
    process = _some_point(place, rng)
    process.send_signal(rng.choice([signal.SIGTERM, signal.SIGINT]))
    place.finish(process, limit_s=45.0)
    place.resume_to_the_end()


def disk_full(what: str) -> Fault:
    """A fault: the disk of `storage`, `database` or `home` is full for a while."""

    def fault(place: Place, rng: Random) -> None:
        with mounted_disk(place.root / what, kilobytes=64 * 1024) as disk:
            process = _some_point(place, rng)
            filler = disk / "filler"
            _fill(filler)
            time.sleep(rng.uniform(1.0, 12.0))
            filler.unlink()
            place.finish(process)
            place.resume_to_the_end()

    return fault


def database_locked(place: Place, rng: Random) -> None:
    """Another process keeps the SQLite database locked, at times longer than a write waits for it."""
    process = _some_point(place, rng)
    with suppress(sqlite3.OperationalError):  # not created yet
        connection = sqlite3.connect(place.url.removeprefix("sqlite:///"), timeout=20.0, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        time.sleep(rng.choice([2.0, 10.0, 45.0]))
        connection.execute("ROLLBACK")
        connection.close()
    place.finish(process)
    place.resume_to_the_end()


def postgres_restarted(place: Place, rng: Random) -> None:
    """PostgreSQL crashes, and starts again at once or after a while."""
    programs = postgres_programs()
    if programs is None:
        raise NotInstalledError("PostgreSQL is not installed")
    server = PostgresServer(programs)
    with server.running() as url:
        place.database = url
        process = _some_point(place, rng)
        server.stop(rng.choice(["fast", "immediate"]))
        time.sleep(rng.choice([0.0, 3.0, 20.0]))
        server.start()
        place.finish(process)
        place.resume_to_the_end()


def checkpoint_damaged(how: str) -> Fault:
    """A fault: the newest checkpoint is `cut` or has a `flipped` byte when the study is resumed."""

    def fault(place: Place, rng: Random) -> None:
        process = _some_point(place, rng)
        process.kill()
        place.finish(process)
        files = sorted(place.storage.rglob("*.safetensors"), key=lambda path: path.stat().st_mtime)
        if files and not is_finished(place):  # else nothing reads them
            _damage(files[-1], how, rng)
        place.resume_to_the_end()

    return fault


def mlflow_away(place: Place, rng: Random) -> None:
    """The MLflow server does not answer."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place.environment["MLFLOW_TRACKING_URI"] = f"http://127.0.0.1:{port}"
    place.options = [*place.options, "--mlflow"]
    place.finish(place.start("run"))
    place.resume_to_the_end()


def worker(number: signal.Signals) -> Fault:
    """A fault: a worker of Ray is killed or stopped."""

    def fault(place: Place, rng: Random) -> None:
        place.dispatcher = "ray"
        place.options = ["--worker-timeout", "40s"]  # importing torch takes 15 s on a busy machine
        process = _some_point(place, rng)
        if wait_until(process, lambda: bool(_workers(place))):
            with suppress(ProcessLookupError, IndexError):  # it has just ended
                os.kill(rng.choice(_workers(place)), number)
        place.finish(process)
        place.resume_to_the_end()

    return fault


def server_of_ray(name: str, number: signal.Signals) -> Fault:
    """A fault: a server of Ray is killed or stopped."""

    def fault(place: Place, rng: Random) -> None:
        place.dispatcher = "ray"
        process = _some_point(place, rng)
        for pid in children(process.pid, name):
            os.kill(pid, number)
        try:
            place.finish(process)
            place.resume_to_the_end()
        finally:
            for pid in children(process.pid, name):
                os.kill(pid, signal.SIGKILL)

    return fault


def second_node(number: signal.Signals) -> Fault:
    """A fault: the second machine of a cluster is lost, or hangs."""

    def fault(place: Place, rng: Random) -> None:
        place.dispatcher = "ray"
        place.environment |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": secrets.token_hex(32),
        }  # as docs/ray.md has it
        place.root.mkdir()
        with two_nodes(place.root, environment={**os.environ, **place.environment}) as (address, nodes):
            place.options = ["--ray-address", address]
            process = _some_point(place, rng)
            servers = children(nodes[1].pid, "raylet")
            for pid in servers:
                os.kill(pid, number)
            try:
                place.finish(process)
                place.resume_to_the_end()
            finally:
                for pid in servers:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)

    return fault


KINDS: dict[str, Fault] = {
    "driver killed": driver_killed,
    "driver stopped": driver_stopped,
    "driver terminated": driver_terminated,
    "disk of checkpoints full": disk_full("storage"),
    "disk of the database full": disk_full("database"),
    "disk of the home full": disk_full("home"),
    "database locked": database_locked,
    "PostgreSQL restarted": postgres_restarted,
    "checkpoint cut": checkpoint_damaged("cut"),
    "checkpoint flipped": checkpoint_damaged("flipped"),
    "MLflow away": mlflow_away,
    "worker killed": worker(signal.SIGKILL),
    "worker stopped": worker(signal.SIGSTOP),
    "raylet killed": server_of_ray("raylet", signal.SIGKILL),
    "raylet stopped": server_of_ray("raylet", signal.SIGSTOP),
    "GCS killed": server_of_ray("gcs_server", signal.SIGKILL),
    "GCS stopped": server_of_ray("gcs_server", signal.SIGSTOP),
    "second node killed": second_node(signal.SIGKILL),
    "second node stopped": second_node(signal.SIGSTOP),
}


def _fill(path: Path) -> None:
    with suppress(OSError), path.open("wb") as file:
        while True:
            file.write(b"0" * 65536)
            file.flush()


def _workers(place: Place) -> list[int]:
    return [int(beat.stem.rpartition("-")[2]) for beat in place.storage.glob("*/work/*.beat")]


def _damage(path: Path, how: str, rng: Random) -> None:
    content = bytearray(path.read_bytes())
    if how == "cut":
        content = content[: rng.randrange(len(content))]
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)

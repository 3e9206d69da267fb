"""A PostgreSQL server for tests and benchmarks, in a folder of its own; nobody else's server is touched."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

import pytest


def postgres_programs() -> Path | None:
    """Folder of initdb and pg_ctl; None if they are not installed."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    if found := shutil.which("initdb"):
        folders.append(Path(found).parent)
    folders = [folder for folder in folders if (folder / "initdb").exists() and (folder / "pg_ctl").exists()]
    return folders[-1] if folders else None


class PostgresServer:
    """A server with one empty database, in a new folder.

    Args:
        programs: The result of `postgres_programs`.
        durable: Whether commits are flushed to the disk.
        password: Of the user `postgres`, who connects by TCP then; None for a socket without one.

    Attributes:
        url: URL of its database.
    """

    def __init__(self, programs: Path, *, durable: bool = False, password: str | None = None) -> None:
        self._programs = programs
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
        self._home = Path(tempfile.mkdtemp(prefix="sparsesearch-pg-", dir="/tmp"))  # a socket's path must be short
        secret = self._home / "password"
        secret.write_text(password or "", encoding="utf-8")
        if self._as_user:
            for path in (self._home, secret):
                shutil.chown(path, "postgres", "postgres")
        if password is None:
            listen, how = "listen_addresses=''", ["-A", "trust"]
            self.url = f"postgresql://postgres@/postgres?host={self._home}"
        else:
            port = _free_port()
            listen = f"listen_addresses=127.0.0.1 -c port={port}"
            how = ["-A", "scram-sha-256", "--pwfile", str(secret)]
            self.url = f"postgresql://postgres:{quote(password, safe='')}@127.0.0.1:{port}/postgres"
        self._options = f"-k {self._home} -c {listen} -c max_connections=50" + " -c fsync=off" * (not durable)
        self._run("initdb", *how, "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "-w", "-l", str(self._home / "log"), "-o", self._options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `fast` ends the connections in order, `immediate` is a crash."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    @contextmanager
    def running(self) -> Iterator[str]:
        """Run it while the block runs, then delete it; yields the URL."""
        try:
            self.start()
            try:
                yield self.url
            finally:
                self.stop()
        finally:
            self.remove()

    def remove(self) -> None:
        """Delete its files; it must be stopped."""
        shutil.rmtree(self._home)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), "-D", str(self._home / "data"), *arguments]
        done = subprocess.run(command, cwd=self._home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr


@contextmanager
def postgres(*, password: str | None = None) -> Iterator[str]:
    """Run a server for a test and yield its URL; see `PostgresServer`."""
    programs = postgres_programs()
    if programs is None:
        pytest.fail("these tests need a PostgreSQL server's programs; run: apt-get install postgresql", pytrace=False)
    with PostgresServer(programs, password=password).running() as url:
        yield url


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

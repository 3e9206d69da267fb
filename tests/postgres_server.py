"""A PostgreSQL server for tests and benchmarks, on a socket of its own; nobody else's server is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path


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

    Attributes:
        url: URL of its database.
    """

    def __init__(self, programs: Path, *, durable: bool = False) -> None:
        self._programs = programs
        self._as_user = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []  # it refuses to run as root
        self._home = Path(tempfile.mkdtemp(prefix="sparsesearch-pg-", dir="/tmp"))  # a socket's path must be short
        self._options = f"-k {self._home} -c listen_addresses='' -c max_connections=50"
        if not durable:
            self._options += " -c fsync=off"
        if self._as_user:
            shutil.chown(self._home, "postgres", "postgres")
        self.url = f"postgresql://postgres@/postgres?host={self._home}"
        self._run("initdb", "-A", "trust", "-U", "postgres", "--no-sync", "-E", "UTF8", "--locale=C")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self._run("pg_ctl", "-w", "-l", str(self._home / "log"), "-o", self._options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it: `fast` ends the connections in order, `immediate` is a crash."""
        self._run("pg_ctl", "-w", "-m", mode, "stop")

    def remove(self) -> None:
        """Delete its files; it must be stopped."""
        shutil.rmtree(self._home)

    def _run(self, program: str, *arguments: str) -> None:
        command = [*self._as_user, str(self._programs / program), "-D", str(self._home / "data"), *arguments]
        done = subprocess.run(command, cwd=self._home, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 0, done.stderr

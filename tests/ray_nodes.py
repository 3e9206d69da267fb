"""A Ray cluster of two nodes on this machine."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

_SHARED = [
    "--node-ip-address",
    "127.0.0.1",
    "--num-cpus",
    "1",
    "--object-store-memory",
    "100000000",
    "--block",
    "--disable-usage-stats",
]


@contextmanager
def two_nodes(
    folder: Path, *, environment: Mapping[str, str], cwds: tuple[Path, Path] | None = None
) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Start two nodes with a core each, and yield the head's address and both processes, the head's first.

    Args:
        folder: For the logs of the nodes.
        environment: Environment of the nodes.
        cwds: Working directories of the nodes.
    """
    program = [sys.executable, "-m", "ray.scripts.scripts"]
    settings = {**environment, "RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    head = ["start", "--head", "--port", str(port), "--include-dashboard", "false"]
    nodes: list[subprocess.Popen[bytes]] = []
    temporaries: list[str] = []
    try:
        for number, options in enumerate([head, ["start", "--address", f"127.0.0.1:{port}"]]):
            temporaries.append(tempfile.mkdtemp(prefix="ray-", dir="/tmp"))  # a socket's path must be short
            command = [*program, *options, *_SHARED, "--temp-dir", temporaries[-1]]
            log = folder / f"node-{number}.log"
            with log.open("wb") as file:
                cwd = None if cwds is None else cwds[number]
                nodes.append(subprocess.Popen(command, env=settings, cwd=cwd, stdout=file, stderr=file))
            while "Ray runtime started" not in log.read_text(encoding="utf-8"):
                assert nodes[-1].poll() is None, log.read_text(encoding="utf-8")
                time.sleep(0.1)
        yield f"127.0.0.1:{port}", nodes
    finally:
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            node.wait(timeout=60)
        for temporary in temporaries:
            shutil.rmtree(temporary, ignore_errors=True)

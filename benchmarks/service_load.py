"""The REST API under load: 100 requests a second on lists, fronts and trials, and 200 open event streams.

    OMP_NUM_THREADS=1 python benchmarks/service_load.py [--folder FOLDER] [--seconds 60] [--rate 100] [--streams 200]

A SQLite database of 1,000 studies and 100,000 trials, the largest study has 10,000; one `sparsesearch serve` on
loopback. Requests start at fixed times, whether or not earlier ones have been answered, so that waiting counts. The
processor seconds of the generator and of the server are printed, and the server's memory before and after.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from store_reading import add_study, copy_study

from sparsesearch.service.event_feed import event_id
from sparsesearch.store.audit import Actor
from sparsesearch.store.sql import open_store
from sparsesearch.study.access import Scope

WORKERS = 32
LARGE, SMALL = "large", "small"


def paths() -> dict[str, list[str]]:
    """What is asked for, by kind."""
    studies = [LARGE, SMALL, *(f"copy-{number}" for number in range(1, 40))]
    return {
        "list": ["/api/v1/studies?limit=50", "/api/v1/studies?limit=50&offset=500"],
        "front": [f"/api/v1/studies/{name}/front" for name in studies],
        "trials": [f"/api/v1/studies/{name}/trials?limit=100" for name in studies],
    }


def fill(url: str) -> str:
    """Make the database, and return a token."""
    store = open_store(url)
    add_study(store, LARGE, 10_000)
    add_study(store, SMALL, 90)
    copy_study(store, SMALL, 998)
    token = store.tokens.create("load", Scope.READ, by=Actor("benchmark"))
    store.close()
    return token


def usage(pid: int) -> tuple[float, float]:
    """Processor seconds and resident megabytes of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    ticks = int(fields[11]) + int(fields[12])
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return ticks / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def load(port: int, token: str, *, rate: float, seconds: float) -> dict[str, list[float]]:
    """Milliseconds from the planned start of each request to its last byte, by kind."""
    kinds = paths()
    plan = [(i / rate, *pair) for i, pair in enumerate(_requests(kinds, int(rate * seconds)))]
    lock, found = threading.Lock(), defaultdict(list)
    waiting = iter(plan)
    began = time.monotonic() + 0.5

    def work() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        while True:
            with lock:
                following = next(waiting, None)
            if following is None:
                return
            at, kind, path = following
            time.sleep(max(0.0, began + at - time.monotonic()))
            connection.request("GET", path, headers={"Authorization": f"Bearer {token}"})
            response = connection.getresponse()
            response.read()
            if response.status != 200:
                raise SystemExit(f"{path}: status {response.status}")
            with lock:
                found[kind].append(1e3 * (time.monotonic() - began - at))

    threads = [threading.Thread(target=work) for _ in range(WORKERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def _requests(kinds: dict[str, list[str]], count: int) -> list[tuple[str, str]]:
    turns = {kind: itertools.cycle(found) for kind, found in kinds.items()}
    return [(kind, next(turns[kind])) for kind, _ in zip(itertools.cycle(kinds), range(count), strict=False)]


def newest(url: str, names: Iterable[str]) -> dict[str, str]:
    """The id of the last change of studies."""
    store = open_store(url)
    found = {name: store.last_change(name) for name in names}
    store.close()
    return {name: event_id(last.uid, last.number) for name, last in found.items()}


async def open_streams(port: int, token: str, *, after: dict[str, str], count: int, seconds: float) -> int:
    """Open event streams for some seconds; return how many got an event.

    Args:
        port: Port of the server.
        token: A token.
        after: The studies, each with the id of the last event that the streams know.
        count: Number of streams.
        seconds: How long.
    """
    studies = list(after.items())

    async def one(number: int) -> bool:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        study, last = studies[number % len(studies)]
        head = f"GET /api/v1/studies/{study}/events HTTP/1.1\r\nHost: localhost\r\n"
        writer.write(f"{head}Authorization: Bearer {token}\r\nLast-Event-ID: {last}\r\n\r\n".encode())
        got = False
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                line = await asyncio.wait_for(reader.readline(), end - time.monotonic())
            except TimeoutError:
                break
            got = got or line.startswith(b"event:")
            if not line:
                break
        writer.close()
        return got

    return sum(await asyncio.gather(*(one(number) for number in range(count))))


def percentile(values: list[float], fraction: float) -> float:
    """A percentile of some values."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(fraction * len(ordered)))]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--streams", type=int, default=200)
    parser.add_argument("--port", type=int, default=8765)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        url = f"sqlite:///{folder}/studies.db"
        token = fill(url)
        command = [sys.executable, "-m", "sparsesearch", "serve", "--port", str(options.port), "--rate", "1000"]
        environ = {**os.environ, "SPARSESEARCH_DATABASE_URL": url, "SPARSESEARCH_HOME": folder}
        server = subprocess.Popen(command, env=environ, stderr=subprocess.DEVNULL)
        try:
            _wait(options.port)
            load(options.port, token, rate=20.0, seconds=3.0)  # warm
            own, (cpu, memory) = time.process_time(), usage(server.pid)
            found = load(options.port, token, rate=options.rate, seconds=options.seconds)
            cpu_after, memory_after = usage(server.pid)
            for kind, ms in found.items():
                print(
                    f"{kind:7s} {len(ms):6d} requests, ms: median {percentile(ms, 0.5):.0f}, p90 "
                    f"{percentile(ms, 0.9):.0f}, p99 {percentile(ms, 0.99):.0f}, max {max(ms):.0f}"
                )
            print(
                f"processor seconds: server {cpu_after - cpu:.1f}, generator {time.process_time() - own:.1f}; memory "
                f"of the server {memory:.0f} MB before, {memory_after:.0f} MB after"
            )
            after = newest(url, [f"copy-{number}" for number in range(1, 21)])
            streams = open_streams(options.port, token, after=after, count=options.streams, seconds=10.0)
            got = asyncio.run(streams)
            print(f"{options.streams} event streams at once: {got} received events; {usage(server.pid)[1]:.0f} MB")
        finally:
            server.terminate()
            server.wait()


def _wait(port: int) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as response:
                json.load(response)
                return
        except OSError:
            time.sleep(0.2)
    raise SystemExit("the server does not answer")


if __name__ == "__main__":
    main()

"""Processes that sync one study take turns."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from sparsesearch.tracking.file_lock import FileLock


def test_what_is_known_holds_until_somebody_else_had_a_turn(tmp_path: Path) -> None:
    one, other = FileLock(tmp_path / "deep" / "a.lock"), FileLock(tmp_path / "deep" / "a.lock")

    def acquire(lock: FileLock) -> bool:
        with lock.acquire() as is_unchanged:
            return is_unchanged

    assert [acquire(one), acquire(one), acquire(other), acquire(one), acquire(one)] == [False, True, False, False, True]


def test_nobody_is_disturbed(tmp_path: Path) -> None:
    path = tmp_path / "a.lock"
    inside: list[int] = []
    worst: list[int] = []

    def work() -> None:
        lock = FileLock(path)
        for _ in range(20):
            with lock.acquire():
                inside.append(1)
                worst.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert max(worst) == 1

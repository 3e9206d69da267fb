from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from sparsesearch.errors import StoreError, StoreUnavailableError
from sparsesearch.store.patience import Patience


def failing_until(until: float, *, is_disconnect: bool = False) -> Callable[[], str]:
    def attempt() -> str:
        if time.monotonic() < until:
            error = StoreUnavailableError("it is away")
            error.is_disconnect = is_disconnect
            raise error
        return "here"

    return attempt


def test_without_patience_the_first_failure_counts() -> None:
    with pytest.raises(StoreUnavailableError, match="it is away"):
        Patience().run(failing_until(time.monotonic() + 60))


def test_a_lost_connection_is_made_again_at_once() -> None:
    attempts: list[int] = []

    def attempt() -> str:
        attempts.append(1)
        if len(attempts) == 1:
            error = StoreUnavailableError("the connection is lost")
            error.is_disconnect = True
            raise error
        return "here"

    assert Patience().run(attempt) == "here"
    with pytest.raises(StoreUnavailableError):
        Patience().run(failing_until(time.monotonic() + 60, is_disconnect=True))


def test_other_errors_are_not_waited_for() -> None:
    def attempt() -> None:
        raise StoreError("it is no database")

    started = time.monotonic()
    with pytest.raises(StoreError, match="it is no database"):
        Patience(60).run(attempt)
    assert time.monotonic() - started < 1


def test_short_absences_are_not_told() -> None:
    lines: list[str] = []
    assert Patience(60, on_wait=lines.append).run(failing_until(time.monotonic() + 0.5)) == "here"
    assert lines == []


def test_calls_that_succeed_meanwhile_do_not_end_the_waiting() -> None:
    """SQLite answers readers while another process keeps the lock of writers."""
    lines: list[str] = []
    patience = Patience(60, on_wait=lines.append)
    away = failing_until(time.monotonic() + 4)
    threads = [threading.Thread(target=patience.run, args=(away,)) for _ in range(3)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        assert patience.run(lambda: "here") == "here"
        time.sleep(0.01)
    assert lines == ["waiting for the database, at most 60 s: it is away", lines[-1]]
    assert lines[-1].startswith("the database is back after")
    assert len(lines) == 2

"""Wait for a database that is away for a while."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from sparsesearch.errors import StoreUnavailableError
from sparsesearch.text import human_time

_T = TypeVar("_T")

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.05, 2.0
_SILENT_S = 1.0  # shorter absences are not worth a line
_LOOK_S = 0.2  # how soon a request to give up is noticed


class Patience:
    """Repeats what failed because the database is not available. Thread-safe; the threads that wait tell it once.

    Args:
        seconds: How long to wait; 0 to fail at once.
        on_wait: Receives one line when the waiting begins, and one when it is over.
        give_up: Whether to wait no longer, because the process is to end.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        *,
        on_wait: Callable[[str], None] = lambda line: None,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self.seconds = seconds
        self._on_wait = on_wait
        self._give_up = give_up
        self._lock = threading.Lock()
        self._waiting = 0
        self._told_at: float | None = None

    def run(self, attempt: Callable[[], _T]) -> _T:
        """Return what `attempt` returns, once it does not raise `StoreUnavailableError` any more.

        A pooled connection may be dead although the database is there, so the first failure because of a lost
        connection is always followed by another attempt.

        Raises:
            StoreUnavailableError: The patience is over.
        """
        try:
            return attempt()
        except StoreUnavailableError as error:
            first = None if error.is_disconnect else error
        with self._counted():
            return self._repeated(attempt, first)

    def _repeated(self, attempt: Callable[[], _T], error: StoreUnavailableError | None) -> _T:
        started, pause = time.monotonic(), _FIRST_PAUSE_S
        while True:
            if error is not None:
                waited = time.monotonic() - started
                if waited >= self.seconds or self._give_up():
                    raise error
                if waited >= _SILENT_S:
                    self._tell(error, since=started)
                self._sleep(min(pause * random.uniform(0.5, 1.5), self.seconds - waited))
                pause = min(_LONGEST_PAUSE_S, 2 * pause)
            try:
                return attempt()
            except StoreUnavailableError as found:
                error = found

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._give_up():
            time.sleep(min(left, _LOOK_S))

    @contextmanager
    def _counted(self) -> Iterator[None]:
        """Count a call that waits; when none does any more, the end of the waiting is told."""
        with self._lock:
            self._waiting += 1
        is_back = False
        try:
            yield
            is_back = True
        finally:
            with self._lock:
                self._waiting -= 1
                since = self._told_at
                is_over = self._waiting == 0
                if is_over:
                    self._told_at = None
            if is_over and is_back and since is not None:
                self._on_wait(f"the database is back after {human_time(time.monotonic() - since)}")

    def _tell(self, error: Exception, *, since: float) -> None:
        with self._lock:
            if self._told_at is not None:
                return
            self._told_at = since
        self._on_wait(f"waiting for the database, at most {human_time(self.seconds)}: {error}")

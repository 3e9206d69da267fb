"""Wait for a database that is away for a while."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
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
        self._told_at: float | None = None

    def run(self, attempt: Callable[[], _T]) -> _T:
        """Return what `attempt` returns, once it does not raise `StoreUnavailableError` any more.

        A pooled connection may be dead although the database is there, so the first failure because of a lost
        connection is always followed by another attempt.

        Raises:
            StoreUnavailableError: The patience is over.
        """
        started, pause, is_first = time.monotonic(), _FIRST_PAUSE_S, True
        while True:
            try:
                result = attempt()
            except StoreUnavailableError as error:
                waited = time.monotonic() - started
                if not (is_first and error.is_disconnect):
                    if waited >= self.seconds or self._give_up():
                        raise
                    if waited >= _SILENT_S:
                        self._tell(error, since=started)
                    self._sleep(min(pause * random.uniform(0.5, 1.5), self.seconds - waited))
                    pause = min(_LONGEST_PAUSE_S, 2 * pause)
                is_first = False
            else:
                self._tell_end()
                return result

    def _sleep(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0 and not self._give_up():
            time.sleep(min(left, _LOOK_S))

    def _tell(self, error: Exception, *, since: float) -> None:
        with self._lock:
            if self._told_at is not None:
                return
            self._told_at = since
        self._on_wait(f"waiting for the database, at most {human_time(self.seconds)}: {error}")

    def _tell_end(self) -> None:
        if self._told_at is None:  # without the lock, which every write would need
            return
        with self._lock:
            since, self._told_at = self._told_at, None
        if since is not None:
            self._on_wait(f"the database is back after {human_time(time.monotonic() - since)}")

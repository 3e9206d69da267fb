"""Say something at least every few seconds, so that whoever reads a log knows that the work goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

HEARTBEAT_SECONDS = 12.0
"""Longest time without a line in a log or a pipe."""


class Heartbeat:
    """Calls a function from a thread of its own whenever nothing was said for a while.

    Args:
        beat: Says something; called between `start` and `stop`.
        every_seconds: The time after which it is called.
    """

    def __init__(self, beat: Callable[[], None], *, every_seconds: float = HEARTBEAT_SECONDS) -> None:
        self._beat = beat
        self._every_seconds = every_seconds
        self._said_at = time.monotonic()
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def note(self) -> None:
        """Note that something was said."""
        self._said_at = time.monotonic()

    def start(self) -> None:
        """Start the thread."""
        self.note()
        self._end.clear()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread, and wait until nothing more is said."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while not self._end.wait(max(0.05, self._said_at + self._every_seconds - time.monotonic())):
            if time.monotonic() - self._said_at >= self._every_seconds:
                self.note()
                self._beat()

"""Wait for a fault of a disk, network or machine to pass, for a limited time."""

from __future__ import annotations

import time
from collections.abc import Callable

from sparsesearch.errors import InfrastructureError
from sparsesearch.study.progress import Progress, Silent
from sparsesearch.study.stop import StopToken
from sparsesearch.text import human_time

_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 30.0
_LOOK_S = 0.2


class FaultPause:
    """Pauses a run while a fault lasts. Used by one thread.

    Args:
        seconds: How long a fault is waited for, from its first sign; 0 to end the run at once.
        stop: Ends the waiting.
        progress: Receives a line when a fault is met, and one when it has passed.
        clock: Monotonic clock, in seconds.
        sleep: Waits for some seconds.
    """

    def __init__(
        self,
        seconds: float = 0.0,
        *,
        stop: StopToken | None = None,
        progress: Progress | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._seconds = seconds
        self._stop = stop or StopToken()
        self._progress = progress or Silent()
        self._clock = clock
        self._sleep = sleep
        self._since: float | None = None
        self._pause_s = _FIRST_PAUSE_S

    def wait(self, fault: InfrastructureError) -> None:
        """Wait before another try: a second at first, then longer, half a minute at most.

        Raises:
            InfrastructureError: The fault has lasted too long.
            StoppedError: The run is to stop.
        """
        now = self._clock()
        if self._since is None:
            self._since, self._pause_s = now, _FIRST_PAUSE_S
            if self._seconds > 0.0:
                self._progress.line(f"paused: {fault}; trying again for {human_time(self._seconds)} (--patience)")
        end = self._since + self._seconds
        if now >= end:
            self._since = None
            raise fault
        until = min(now + self._pause_s, end)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        while (left := until - self._clock()) > 0.0:
            if self._stop.check():
                self._stop.raise_if_set()
            self._sleep(min(_LOOK_S, left))

    def passed(self) -> None:
        """Something new was done, so a fault that was waited for has passed."""
        if self._since is not None:
            self._progress.line(f"going on after {human_time(self._clock() - self._since)}")
            self._since = None

"""Ctrl-C: once asks a run to stop where nothing is lost, twice stops it at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupt:
    """Catches the first SIGINT while it is entered; a second one meets the handler that was there before.

    Outside the main thread, and where SIGINT is ignored, it catches nothing.

    Attributes:
        requested: Whether the first SIGINT came.
    """

    def __init__(self) -> None:
        self.requested = False
        self._before = signal.getsignal(signal.SIGINT)
        self._catches = (
            threading.current_thread() is threading.main_thread()
            and self._before is not None
            and self._before is not signal.SIG_IGN
        )

    def __enter__(self) -> Interrupt:
        if self._catches:
            signal.signal(signal.SIGINT, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._catches:
            signal.signal(signal.SIGINT, self._before)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        signal.signal(signal.SIGINT, self._before)

"""Handle Ctrl-C: the first one requests a graceful stop, the second one stops immediately."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType


class Interrupt:
    """Catches the first SIGINT inside the context; a second one goes to the previous handler.

    Outside the main thread, and if SIGINT is ignored, it catches nothing.

    Attributes:
        requested: Whether a SIGINT was received.
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

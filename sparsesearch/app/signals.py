"""Turn Ctrl-C and SIGTERM into requests to stop."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from sparsesearch.study.stop import StopCause, StopToken

_CAUSES = {signal.SIGINT: StopCause.INTERRUPT, signal.SIGTERM: StopCause.TERMINATE}


@contextmanager
def stopping_on_signals(token: StopToken, *, at_once: bool) -> Iterator[None]:
    """Set a token at the first Ctrl-C or SIGTERM while the block runs, and raise KeyboardInterrupt at the second one.

    With `at_once`, the first one raises as well, for work that does not look at the token and can be repeated.

    Outside the main thread, and for a signal that is ignored, nothing is changed.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        is_second = token.cause is not None
        token.stop(_CAUSES[signal.Signals(number)])
        if is_second or at_once:
            raise KeyboardInterrupt

    before = {number: signal.getsignal(number) for number in _CAUSES}
    caught = [number for number, handler in before.items() if handler not in (None, signal.SIG_IGN)]
    for number in caught:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, before[number])

"""End a process in time when its main thread hangs, whatever it hangs in."""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Callable
from types import TracebackType

from sparsesearch.study.stop import StopCause, StoppedError, StopToken

logger = logging.getLogger(__name__)

_LOOK_S = 0.5
_LAST_S = 3.0
_CAUSES = {int(signal.SIGINT): StopCause.INTERRUPT, int(signal.SIGTERM): StopCause.TERMINATE}
_AT_ONCE = (StopCause.INTERRUPT, StopCause.TERMINATE, StopCause.LEASE_LOST, StopCause.FAULT)


class LastResort:
    """Ends this process some seconds after Ctrl-C, SIGTERM, a lost lease or a fault, if it still runs.

    A context manager.

    Python handles signals in its main thread, between two of its steps: never, if that thread waits for a disk, a
    database or a cluster that does not answer. This watches for them in another thread. What was recorded is kept, and
    the study goes on from its last checkpoints.

    Args:
        stop: The token of the work.
        at_last: Called before the process ends, for a few seconds at most.
        seconds: How long the work has to end by itself.
    """

    def __init__(self, stop: StopToken, *, at_last: Callable[[StopCause], None], seconds: float = 27.0) -> None:
        self._token = stop
        self._at_last = at_last
        self._seconds = seconds
        self._over = threading.Event()
        self._ours, self._theirs = socket.socketpair()
        for end in (self._ours, self._theirs):
            end.setblocking(False)
        self._is_main = threading.current_thread() is threading.main_thread()
        self._before = -1
        self._thread = threading.Thread(target=self._watch, name="last-resort", daemon=True)

    def __enter__(self) -> LastResort:
        if self._is_main:
            self._before = signal.set_wakeup_fd(self._theirs.fileno(), warn_on_full_buffer=False)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._is_main:
            signal.set_wakeup_fd(self._before)
        self._ours.close()
        self._theirs.close()

    def _watch(self) -> None:
        cause: StopCause | None = None
        while cause is None and not self._over.is_set():
            cause = self._signalled() or (self._token.cause if self._token.cause in _AT_ONCE else None)
        seconds = 0.0 if cause is StopCause.FAULT else self._seconds  # it is known to hang
        if cause is None or self._over.wait(seconds):
            return
        logger.warning("%s; the work hangs, so this process ends", StoppedError(cause))
        last = threading.Thread(target=self._at_last, args=(cause,), daemon=True)
        last.start()
        last.join(_LAST_S)
        os._exit(StoppedError(cause).exit_code)

    def _signalled(self) -> StopCause | None:
        """The cause of a signal that arrives within half a second."""
        ready, _, _ = select.select([self._ours], [], [], _LOOK_S)
        numbers = self._ours.recv(16) if ready else b""
        return next((_CAUSES[number] for number in numbers if number in _CAUSES), None)

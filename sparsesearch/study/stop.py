"""A token by which work is asked to stop at the next place where nothing is lost."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

from sparsesearch.errors import SparseSearchError
from sparsesearch.study.state import StopRequest


class StopCause(StrEnum):
    """Why work stops.

    Attributes:
        INTERRUPT: Ctrl-C.
        TERMINATE: SIGTERM.
        LEASE_LOST: Another process has taken the study over.
        FAULT: Something around the work has failed, and hangs.
        PAUSE: See `StopRequest`.
        STOP: See `StopRequest`.
        CANCEL: See `StopRequest`.
        APPLY: See `StopRequest`.
    """

    INTERRUPT = "interrupt"
    TERMINATE = "terminate"
    LEASE_LOST = "lease lost"
    FAULT = "fault"
    PAUSE = "pause"
    STOP = "stop"
    CANCEL = "cancel"
    APPLY = "apply"

    @classmethod
    def of(cls, request: StopRequest) -> StopCause:
        """The cause of a stored request."""
        return cls(request.value)


class StopToken:
    """Tells running work to stop. Thread-safe; may be set from a signal handler.

    The first cause counts, except that a lost lease overrides every other.

    Args:
        on_stop: Called with the first cause, once, by the thread that next checks the token.
    """

    def __init__(self, *, on_stop: Callable[[StopCause], None] | None = None) -> None:
        self._cause: StopCause | None = None
        self._on_stop = on_stop
        self._has_told = False

    def stop(self, cause: StopCause) -> None:
        """Ask the work to stop."""
        if self._cause is None or cause is StopCause.LEASE_LOST:
            self._cause = cause

    @property
    def cause(self) -> StopCause | None:
        """Why the work is to stop; None while it may go on."""
        return self._cause

    def check(self) -> bool:
        """Whether the work is to stop; the first time that it is, `on_stop` is called."""
        cause = self.cause
        if cause is None:
            return False
        if not self._has_told:
            self._has_told = True
            if self._on_stop is not None:
                self._on_stop(cause)
        return True

    def raise_if_set(self) -> None:
        """Raise the end of work that has stopped.

        Raises:
            StoppedError: The token is set.
        """
        cause = self.cause
        if cause is not None:
            raise StoppedError(cause)


class StoppedError(SparseSearchError):
    """Work stopped as asked by a `StopToken`; everything up to the last epoch is stored.

    Attributes:
        cause: Why.
        exit_code: That of a process that ends for this: 128 and the signal; 75 for a lost lease, so that it is tried
            again; 0 for a request.
    """

    def __init__(self, cause: StopCause) -> None:
        super().__init__(_MESSAGES.get(cause, f"stopped by sparsesearch {cause.value}"))
        self.cause = cause
        self.exit_code = _EXIT_CODES.get(cause, 0)


_MESSAGES = {
    StopCause.INTERRUPT: "interrupted; nothing recorded is lost",
    StopCause.TERMINATE: "terminated; nothing recorded is lost",
    StopCause.FAULT: "the Ray cluster does not answer; nothing recorded is lost",
    StopCause.LEASE_LOST: "another process has taken the study over, so this one has stopped",
}
_EXIT_CODES = {StopCause.INTERRUPT: 130, StopCause.TERMINATE: 143, StopCause.LEASE_LOST: 75, StopCause.FAULT: 75}

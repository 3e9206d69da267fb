"""Keep the lease of a study during epochs that take longer than the lease, and watch for requests to stop."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from types import TracebackType

from sparsesearch.errors import StaleAttemptError, StoreError
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.stop import StopCause, StopToken

logger = logging.getLogger(__name__)

_WORK_POLLS = 2
"""Looks at the store between two writes of the progress of the work."""


class LeaseKeeper:
    """Renews a writer's lease from a background thread, as a context manager.

    The same thread sets the token when another process has taken the study over, or when the store has a request to
    stop, and stores the progress of the work under way for others to read. While the database is not available, all of
    this is retried.

    Args:
        writer: The open study.
        stop: The token of the work.
        work: Returns the progress of the work under way.
        every_seconds: Time between two renewals.
        poll_seconds: Time between two looks at the store.
    """

    def __init__(
        self,
        writer: StudyWriter,
        stop: StopToken,
        *,
        work: Callable[[], Sequence[WorkProgress]] = tuple,
        every_seconds: float = 15.0,
        poll_seconds: float = 1.0,
    ) -> None:
        self._writer = writer
        self._token = stop
        self._work_of = work
        self._every_seconds = every_seconds
        self._poll_seconds = min(poll_seconds, every_seconds)
        self._shown: Sequence[WorkProgress] = ()
        self._show_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)

    def _run(self) -> None:
        renewed = time.monotonic()
        while not self._stop.wait(self._poll_seconds):
            try:
                if time.monotonic() - renewed >= self._every_seconds:
                    renewed = time.monotonic()
                    self._writer.renew()
                self._look()
            except StaleAttemptError as error:
                logger.warning("%s", error)
                self._token.stop(StopCause.LEASE_LOST)
                return
            except StoreError as error:
                logger.warning("the lease of the study could not be renewed: %s", error)

    def _look(self) -> None:
        request = self._writer.requested()
        if request is not None:
            self._token.stop(StopCause.of(request))
        work = self._work_of()
        if work != self._shown and time.monotonic() >= self._show_at:
            self._writer.show_work(work)
            self._shown = work
            self._show_at = time.monotonic() + _WORK_POLLS * self._poll_seconds

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

"""Renew a study's lease during epochs that take longer than the lease."""

from __future__ import annotations

import logging
import threading
from types import TracebackType

from sparsesearch.errors import StaleAttemptError, StoreError
from sparsesearch.study.protocols import StudyWriter

logger = logging.getLogger(__name__)


class LeaseKeeper:
    """Renews a writer's lease from a background thread, as a context manager.

    When another process has taken the study over, renewal stops and the next write raises. While the database is not
    available, renewal is retried.
    """

    def __init__(self, writer: StudyWriter, *, every_seconds: float = 15.0) -> None:
        self._writer = writer
        self._every_seconds = every_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="lease-keeper", daemon=True)

    def _work(self) -> None:
        while not self._stop.wait(self._every_seconds):
            try:
                self._writer.renew()
            except StaleAttemptError as error:
                logger.warning("%s", error)
                return
            except StoreError as error:
                logger.warning("the lease of the study could not be renewed: %s", error)

    def __enter__(self) -> LeaseKeeper:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

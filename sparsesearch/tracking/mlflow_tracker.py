"""Sync a study to MLflow while it runs, in a background thread so that training never waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sparsesearch.errors import SparseSearchError, one_line
from sparsesearch.study.observer import StudyObserver
from sparsesearch.study.trial import Trial
from sparsesearch.text import counted
from sparsesearch.tracking.sync import StudySync
from sparsesearch.tracking.system_metrics import SystemMetrics

logger = logging.getLogger(__name__)

SYNC_COMMAND = "sparsesearch mlflow sync"
PAUSE_SECONDS = 5.0
POLL_SECONDS = 30.0
RETRY_SECONDS = 30.0
FLUSH_SECONDS = 30.0
INTERRUPTED_SECONDS = 5.0

_PAUSE_FACTOR = 20
"""Pause between syncs relative to the duration of the last one: the sync takes at most a twentieth of one core."""

_LONGEST_PAUSE = 60.0


@dataclass
class _Session:
    """One study that is being logged."""

    sync: StudySync
    load: SystemMetrics = field(default_factory=SystemMetrics)
    changed: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    error: str | None = None
    note: str | None = None


class MlflowTracker(StudyObserver):
    """Logs running studies to MLflow.

    It copies only what it reads from the store; a call only tells it that there may be changes. It never raises and,
    except in `ended`, never blocks: on failure it prints one line and retries later. A study that is resumed, or copied
    again, is shown once. Nothing is ever read back from MLflow into a study.

    Args:
        sync_of: Returns the sync of a study, by name.
        report: Receives messages for the user.
        sync_command: The command that syncs a study, without the name of the study.
        pause_s: Minimum time between two reads of the store.
        poll_s: Interval of reads without recorded trials, for the epochs of long trainings.
        retry_s: Time to the next attempt after MLflow failed.
        flush_s: Maximum wait at the end of a study.
    """

    def __init__(
        self,
        sync_of: Callable[[str], StudySync],
        *,
        report: Callable[[str], None],
        sync_command: str = SYNC_COMMAND,
        pause_s: float = PAUSE_SECONDS,
        poll_s: float = POLL_SECONDS,
        retry_s: float = RETRY_SECONDS,
        flush_s: float = FLUSH_SECONDS,
    ) -> None:
        self._sync_of = sync_of
        self._report = report
        self._sync_command = sync_command
        self._pause_s = pause_s
        self._poll_s = poll_s
        self._retry_s = retry_s
        self._flush_s = flush_s
        self._running: tuple[_Session, threading.Thread] | None = None

    def started(self, study: str) -> None:
        """Start logging a stored study, which a controller starts or resumes."""
        session = _Session(self._sync_of(study))
        thread = threading.Thread(target=self._work, args=(session,), name="mlflow-sync", daemon=True)
        self._running = (session, thread)
        thread.start()

    def changed(self, trial: Trial) -> None:
        """Notify the background thread of a recorded trial."""
        if self._running is not None:
            self._running[0].changed.set()

    def ended(self, *, is_interrupted: bool) -> None:
        """Stop logging: wait a limited time for the last sync, and report runs that are not synced."""
        if self._running is None:
            return
        (session, thread), self._running = self._running, None
        session.closing.set()
        session.changed.set()
        timeout = min(INTERRUPTED_SECONDS, self._flush_s) if is_interrupted else self._flush_s
        thread.join(timeout)
        reason = session.error
        if reason is None and thread.is_alive():
            reason = f"not finished after {timeout:g} s"
        if reason is not None:
            self._report(self._describe_pending(session.sync, reason))

    def _work(self, session: _Session) -> None:
        """Sync after each recorded trial and at intervals until the study is over; retry after failures."""
        pause = self._pause_s  # short after the first sync, whose duration includes the import of MLflow
        while True:
            is_last = session.closing.is_set()
            session.changed.clear()
            started = time.monotonic()
            self._sync(session, is_last=is_last)
            took = time.monotonic() - started
            if is_last:
                session.load.end()
                return
            if session.error is not None:
                session.closing.wait(self._retry_s)
                continue
            session.closing.wait(pause)
            pause = min(_LONGEST_PAUSE, max(self._pause_s, _PAUSE_FACTOR * took))
            session.changed.wait(self._poll_s)

    def _sync(self, session: _Session, *, is_last: bool) -> None:
        try:
            changes = session.sync.run(is_live=not is_last)
            session.error = None
            if changes.note is not None and changes.note != session.note:
                session.note = changes.note
                self._report(changes.note)
            run_id = session.sync.run_id
            if run_id is not None and not is_last and (why := session.load.keep(run_id, session.sync.uri)) is not None:
                self._report(why)
        except Exception as error:  # no error of MLflow may stop the study
            text = one_line(error)
            if not isinstance(error, SparseSearchError):
                logger.warning("syncing to MLflow failed", exc_info=True)
            if session.error is None and not session.closing.is_set():
                self._report(f"{text}; the study continues and is synced when MLflow is available again")
            session.error = text

    def _describe_pending(self, sync: StudySync, reason: str) -> str:
        command = f"{self._sync_command} {sync.study}"
        try:
            num = sync.pending()
        except SparseSearchError as error:
            return f"study {sync.study} is not fully synced to MLflow ({reason}; {one_line(error)}); run: {command}"
        return f"{counted(num, 'run')} of study {sync.study} not yet synced to MLflow ({reason}); run: {command}"

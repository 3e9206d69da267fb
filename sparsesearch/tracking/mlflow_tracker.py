"""Copies a study into MLflow while it runs, from a thread of its own so that training never waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from sparsesearch.errors import SparseSearchError, one_line
from sparsesearch.study.protocols import Tracker
from sparsesearch.study.trial import Trial
from sparsesearch.tracking.sync import StudySync

logger = logging.getLogger(__name__)

SYNC_COMMAND = "sparsesearch mlflow sync"
PAUSE_SECONDS = 5.0
LOOK_SECONDS = 30.0
RETRY_SECONDS = 30.0
FLUSH_SECONDS = 30.0
INTERRUPTED_SECONDS = 5.0

_SHARE = 20
"""The sync rests so many times as long as it works: it takes at most a twentieth of one core from the training."""

_LONGEST_PAUSE = 60.0


@dataclass
class _Session:
    """One study that is being shown."""

    sync: StudySync
    news: threading.Event = field(default_factory=threading.Event)
    closing: threading.Event = field(default_factory=threading.Event)
    complaint: str | None = None


class MlflowTracker(Tracker):
    """See `protocols.Tracker`.

    Args:
        sync_of: The sync of a study, by name.
        report: Gets the lines that people should see.
        sync_command: How people catch up; the study's name follows.
        pause_s: Shortest time between two looks at the store.
        look_s: Without news the store is looked at so often, for the epochs of long trainings.
        retry_s: Time to the next attempt when MLflow failed.
        flush_s: Longest wait at the end of a study.
    """

    def __init__(
        self,
        sync_of: Callable[[str], StudySync],
        *,
        report: Callable[[str], None],
        sync_command: str = SYNC_COMMAND,
        pause_s: float = PAUSE_SECONDS,
        look_s: float = LOOK_SECONDS,
        retry_s: float = RETRY_SECONDS,
        flush_s: float = FLUSH_SECONDS,
    ) -> None:
        self._sync_of = sync_of
        self._report = report
        self._sync_command = sync_command
        self._pause_s = pause_s
        self._look_s = look_s
        self._retry_s = retry_s
        self._flush_s = flush_s
        self._running: tuple[_Session, threading.Thread] | None = None

    def start(self, study: str) -> None:
        """A controller begins to work on a stored study, or goes on with it."""
        session = _Session(self._sync_of(study))
        thread = threading.Thread(target=self._work, args=(session,), name="mlflow-sync", daemon=True)
        self._running = (session, thread)
        thread.start()

    def log(self, trial: Trial) -> None:
        """A trial was recorded in the store."""
        if self._running is not None:
            self._running[0].news.set()

    def finish(self, *, interrupted: bool = False) -> None:
        """The controller stops. Waits a bounded time; then one line says what is still to be shown, if anything."""
        if self._running is None:
            return
        (session, thread), self._running = self._running, None
        session.closing.set()
        session.news.set()
        patience = min(INTERRUPTED_SECONDS, self._flush_s) if interrupted else self._flush_s
        thread.join(patience)
        why = session.complaint
        if why is None and thread.is_alive():
            why = f"not done after {patience:g} s"
        if why is not None:
            self._report(self._what_is_left(session.sync, why))

    def _work(self, session: _Session) -> None:
        """Looks at the store whenever there is news, until the study is over; a failure is tried again later."""
        pause = self._pause_s  # also after the first look, which loads MLflow's program
        while True:
            is_last = session.closing.is_set()
            session.news.clear()
            started = time.monotonic()
            self._look(session, is_last=is_last)
            took = time.monotonic() - started
            if is_last:
                return
            if session.complaint is not None:
                session.closing.wait(self._retry_s)
                continue
            session.closing.wait(pause)
            pause = min(_LONGEST_PAUSE, max(self._pause_s, _SHARE * took))
            session.news.wait(self._look_s)

    def _look(self, session: _Session, *, is_last: bool) -> None:
        try:
            session.sync.run(is_live=not is_last)
            session.complaint = None
        except Exception as error:  # whatever it is: the study goes on
            text = one_line(error)
            if not isinstance(error, SparseSearchError):
                logger.warning("copying into MLflow failed", exc_info=True)
            if session.complaint is None and not session.closing.is_set():
                self._report(f"{text}; the study goes on, and is shown there as soon as that is mended")
            session.complaint = text

    def _what_is_left(self, sync: StudySync, why: str) -> str:
        command = f"{self._sync_command} {sync.study}"
        try:
            num = sync.pending()
        except SparseSearchError as error:
            return f"study {sync.study} is not wholly in MLflow ({why}; {one_line(error)}); catch up with: {command}"
        runs = "1 run" if num == 1 else f"{num} runs"
        return f"{runs} of study {sync.study} still to be shown in MLflow ({why}); catch up with: {command}"

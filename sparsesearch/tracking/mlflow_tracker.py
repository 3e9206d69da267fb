"""Mirrors a study into MLflow while it runs, from a thread of its own so that training never waits."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sparsesearch.errors import SparseSearchError, one_line
from sparsesearch.protocols import Tracker
from sparsesearch.tracking.mirror import StudyMirror
from sparsesearch.trial import Trial

logger = logging.getLogger(__name__)

SYNC_COMMAND = "sparsesearch mlflow sync"
PAUSE_SECONDS = 5.0
LOOK_SECONDS = 30.0
RETRY_SECONDS = 30.0
FLUSH_SECONDS = 30.0
INTERRUPTED_SECONDS = 5.0

_SHARE = 20
"""The mirror rests so many times as long as it works: it takes at most a twentieth of one core from the training."""

_LONGEST_PAUSE = 60.0


class MlflowTracker(Tracker):
    """See `protocols.Tracker`.

    Args:
        mirror_of: The mirror of a study, by name.
        report: Gets the lines that people should see.
        sync_command: How people catch up; the study's name follows.
        pause_s: Shortest time between two looks at the store.
        look_s: Without news the store is looked at so often, for the epochs of long trainings.
        retry_s: Time to the next attempt when MLflow failed.
        flush_s: Longest wait at the end of a study.
    """

    def __init__(
        self,
        mirror_of: Callable[[str], StudyMirror],
        *,
        report: Callable[[str], None],
        sync_command: str = SYNC_COMMAND,
        pause_s: float = PAUSE_SECONDS,
        look_s: float = LOOK_SECONDS,
        retry_s: float = RETRY_SECONDS,
        flush_s: float = FLUSH_SECONDS,
    ) -> None:
        self._mirror_of = mirror_of
        self._report = report
        self._sync_command = sync_command
        self._pause_s = pause_s
        self._look_s = look_s
        self._retry_s = retry_s
        self._flush_s = flush_s
        self._news = threading.Event()
        self._closing = threading.Event()
        self._mirror: StudyMirror | None = None
        self._thread: threading.Thread | None = None
        self._complaint: str | None = None

    def start(self, study: str) -> None:
        """A controller begins to work on a stored study, or goes on with it."""
        self._news, self._closing = threading.Event(), threading.Event()
        self._complaint = None
        self._mirror = self._mirror_of(study)
        self._thread = threading.Thread(target=self._work, args=(self._mirror,), name="mlflow-mirror", daemon=True)
        self._thread.start()

    def log(self, trial: Trial) -> None:
        """A trial was recorded in the store."""
        self._news.set()

    def finish(self, *, interrupted: bool = False) -> None:
        """The controller stops. Waits a bounded time; then one line says what is still to be shown, if anything."""
        if self._thread is None or self._mirror is None:
            return
        self._closing.set()
        self._news.set()
        patience = INTERRUPTED_SECONDS if interrupted else self._flush_s
        self._thread.join(min(patience, self._flush_s))
        is_late = self._thread.is_alive()
        if is_late or self._complaint is not None:
            why = self._complaint if self._complaint is not None else f"not done after {patience:g} s"
            self._report(self._what_is_left(self._mirror, why))
        self._thread = None

    def _work(self, mirror: StudyMirror) -> None:
        """Looks at the store whenever there is news, until the study is over; a failure is tried again later."""
        news, closing = self._news, self._closing
        pause = self._pause_s  # also after the first look, which loads MLflow's program
        while True:
            is_last = closing.is_set()
            news.clear()
            started = time.monotonic()
            try:
                mirror.run(is_live=not is_last)
                self._complaint = None
            except Exception as error:  # whatever it is: the study goes on
                if self._complaint is None and not is_last:
                    self._report(f"{one_line(error)}; the study goes on, and is shown there as soon as that is mended")
                if not isinstance(error, SparseSearchError):
                    logger.warning("mirroring into MLflow failed", exc_info=True)
                self._complaint = one_line(error)
            if is_last:
                return
            took = time.monotonic() - started
            if self._complaint is not None:
                closing.wait(self._retry_s)
                continue
            closing.wait(pause)
            pause = min(_LONGEST_PAUSE, max(self._pause_s, _SHARE * took))
            news.wait(self._look_s)

    def _what_is_left(self, mirror: StudyMirror, why: str) -> str:
        command = f"{self._sync_command} {mirror.study}"
        try:
            num = mirror.pending()
        except SparseSearchError as error:
            return f"study {mirror.study} is not wholly in MLflow ({why}; {one_line(error)}); catch up with: {command}"
        runs = "1 run" if num == 1 else f"{num} runs"
        return f"{runs} of study {mirror.study} still to be shown in MLflow ({why}); catch up with: {command}"

"""The base class of reporters, which report nothing."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from sparsesearch.analysis.view import StudyView
from sparsesearch.console.heartbeat import Heartbeat
from sparsesearch.console.watch import Change, StudyWatch
from sparsesearch.study.observer import NoObserver
from sparsesearch.study.progress import Bar, Progress
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.trial import Trial
from sparsesearch.study.work_board import WorkBoard


class Reporter(NoObserver):
    """Reports errors only; subclasses override its methods. Use as a context manager.

    A reporter is the `Progress` of long tasks, and observes one study. Lines may come from any thread.

    Attributes:
        board: The work under way.
        heartbeat: Says something when nothing was said for a while; None if it is not needed.
        prints_summary: Whether the command prints tables and hints at the end.
        prints_result: Whether the reporter itself prints the result, as JSON.
    """

    prints_summary = False
    prints_result = False

    def __init__(self) -> None:
        self.board = WorkBoard(lambda text: self.line(text))
        self.heartbeat: Heartbeat | None = None
        self._records: StudyRecords | None = None
        self._watch: StudyWatch | None = None
        self._level = logging.WARNING

    def bar(self, label: str, total: int | None, *, trial: int | None = None, batch_size: int | None = None) -> Bar:
        """Create a progress bar for one task; see `Progress`."""
        return self.board.bar(label, total, trial=trial, batch_size=batch_size)

    def read_from(self, records: StudyRecords) -> None:
        """Read the studies that it observes from this store."""
        self._records = records

    def started(self, study: str) -> None:
        """Follow a study that starts or resumes."""
        assert self._records is not None, "call read_from first"
        self.follow(StudyWatch(StudyView.of(self._records, study, most=None), work=self.board.work))

    def line(self, text: str) -> None:
        """Print a permanent line."""

    def follow(self, watch: StudyWatch) -> None:
        """Report the trials of this study from now on."""
        self._watch = watch

    def changed(self, trial: Trial) -> None:
        """Report a trial of the study that was recorded."""
        assert self._watch is not None, "call follow first"
        match self._watch.take(trial):
            case Change.STARTED:
                self.trial_started(self._watch, trial)
            case Change.MEASURED:
                self.trial_measured(self._watch, trial)
            case Change.ENDED:
                self.trial_ended(self._watch, trial)

    def trial_started(self, watch: StudyWatch, trial: Trial) -> None:
        """Report that an attempt of a trial started."""

    def trial_measured(self, watch: StudyWatch, trial: Trial) -> None:
        """Report a new measurement of a trial."""

    def trial_ended(self, watch: StudyWatch, trial: Trial) -> None:
        """Report that a trial reached a final state."""

    def said(self) -> None:
        """Note that something was said, so that the heartbeat may wait."""
        if self.heartbeat is not None:
            self.heartbeat.note()

    def result(self, document: dict[str, object]) -> None:
        """Report the result of the command, after everything else."""

    def __enter__(self) -> Self:
        if not self.prints_summary:
            root = logging.getLogger()
            self._level = root.level
            root.setLevel(logging.ERROR)
        if self.heartbeat is not None:
            self.heartbeat.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.heartbeat is not None:
            self.heartbeat.stop()
        if not self.prints_summary:
            logging.getLogger().setLevel(self._level)


_: type[Progress] = Reporter

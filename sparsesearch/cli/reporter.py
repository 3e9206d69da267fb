"""What a command tells while it works. Here: nothing."""

from __future__ import annotations

import logging
from types import TracebackType

from sparsesearch.cli.watch import Change, StudyWatch
from sparsesearch.study.progress import Bar, Progress, Silent
from sparsesearch.study.trial import Trial


class Reporter:
    """Tells nothing but errors; others override what they tell. Use as a context manager.

    It is the `Progress` of long work, and follows one study. Lines may come from any thread.

    Attributes:
        tells_people: Whether tables and hints for people are to be printed at the end.
        tells_result: Whether it prints the result itself, as JSON.
    """

    tells_people = False
    tells_result = False

    def __init__(self) -> None:
        self._watch: StudyWatch | None = None
        self._level = logging.WARNING

    def bar(self, label: str, total: int) -> Bar:
        """A bar for one piece of work."""
        return Silent().bar(label, total)

    def line(self, text: str) -> None:
        """A line that stays."""

    def follow(self, watch: StudyWatch) -> None:
        """A study is worked on from now on."""
        self._watch = watch

    def changed(self, trial: Trial) -> None:
        """A trial of the study was recorded."""
        assert self._watch is not None, "a study is followed first"
        match self._watch.take(trial):
            case Change.STARTED:
                self.started(self._watch, trial)
            case Change.MEASURED:
                self.measured(self._watch, trial)
            case Change.ENDED:
                self.ended(self._watch, trial)

    def started(self, watch: StudyWatch, trial: Trial) -> None:
        """An attempt of a trial began."""

    def measured(self, watch: StudyWatch, trial: Trial) -> None:
        """A trial was measured once more."""

    def ended(self, watch: StudyWatch, trial: Trial) -> None:
        """A trial reached a final state."""

    def result(self, document: dict[str, object]) -> None:
        """The last of all: what came out."""

    def __enter__(self) -> Reporter:
        if not self.tells_people:
            root = logging.getLogger()
            self._level = root.level
            root.setLevel(logging.ERROR)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.tells_people:
            logging.getLogger().setLevel(self._level)


_: type[Progress] = Reporter

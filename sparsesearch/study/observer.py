"""Observers of a running study."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol

from sparsesearch.study.trial import Trial


class StudyObserver(Protocol):
    """Is told what happens in a running study. One study at a time; all calls come from the thread that runs it.

    An observer never changes a study. What it raises ends the run, so an observer of something that may fail (a server,
    a disk) catches those failures itself, and returns quickly.
    """

    def started(self, study: str) -> None:
        """A process starts or resumes a stored study."""

    def changed(self, trial: Trial) -> None:
        """A trial was stored: claimed, measured, claimed for another attempt, or ended.

        A trial in a final state was passed to the controller before.
        """

    def ended(self, *, is_interrupted: bool) -> None:
        """The process stops working on the study.

        Args:
            is_interrupted: Whether it must not take long, because the user waits for the process to end.
        """


class NoObserver(StudyObserver):
    """Ignores everything; the base of observers that need only some of the calls."""

    def started(self, study: str) -> None:
        """Ignore it."""

    def changed(self, trial: Trial) -> None:
        """Ignore it."""

    def ended(self, *, is_interrupted: bool) -> None:
        """Ignore it."""


class Observers(StudyObserver):
    """Passes every call to several observers, in their order.

    Args:
        observers: The observers.
    """

    def __init__(self, observers: Sequence[StudyObserver]) -> None:
        self._observers = tuple(observers)

    def started(self, study: str) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.started(study)

    def changed(self, trial: Trial) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.changed(trial)

    def ended(self, *, is_interrupted: bool) -> None:
        """Pass it on."""
        for observer in self._observers:
            observer.ended(is_interrupted=is_interrupted)


@contextmanager
def observed(observer: StudyObserver, study: str) -> Iterator[None]:
    """Tell an observer that a study starts, and that it ends however the block ends."""
    observer.started(study)
    try:
        yield
    except BaseException:
        observer.ended(is_interrupted=True)
        raise
    observer.ended(is_interrupted=False)

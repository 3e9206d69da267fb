"""An evaluator with looked-up results that any process can open, with mishaps where a test wants them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sparsesearch import errors
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.evaluate.tabulated import TabulatedEvaluator
from sparsesearch.files.durable import write_file
from sparsesearch.schedule import Schedule
from sparsesearch.study.events import Ended, Event
from sparsesearch.study.protocols import Evaluator
from sparsesearch.study.trial import Fidelity, Trial


def table(schedule: Schedule, fidelity: Fidelity) -> list[dict[str, float]]:
    """A made-up accuracy that rises over three epochs."""
    top1 = 0.8 - sum(0.01 * (1 - step.keep_ratio) * (12 - step.block) for step in schedule.steps)
    epochs = 1 if fidelity is Fidelity.SUPERNET else 3
    return [{"val_top1": top1 - 0.1 * (epochs - epoch)} for epoch in range(1, epochs + 1)]


class Troubled(TabulatedEvaluator):
    """Raises before the end of one trial, or stops without it, and reports all others."""

    def __init__(self, *, at: int, error: Exception | None) -> None:
        super().__init__(table)
        self._at = at
        self._error = error

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run the trial."""
        for event in super().evaluate(trial):
            if trial.number == self._at and isinstance(event, Ended):
                if self._error is not None:
                    raise self._error
                return
            yield event


def tabled() -> PortableEvaluator:
    """Nothing happens."""
    return PortableEvaluator(factory="tabled:open_tabled", document={"at": None})


def failing(error: Exception, *, at: int) -> PortableEvaluator:
    """Trial `at` raises; an error of this package or a built-in one."""
    document = {"at": at, "error": type(error).__name__, "message": str(error)}
    return PortableEvaluator(factory="tabled:open_tabled", document=document)


def endless(*, at: int) -> PortableEvaluator:
    """Trial `at` stops without an end."""
    return PortableEvaluator(factory="tabled:open_tabled", document={"at": at})


def never() -> PortableEvaluator:
    """Nothing is to be evaluated."""
    return PortableEvaluator(factory="tabled:open_never", document={})


def writing(folder: Path, *, at: int) -> PortableEvaluator:
    """Trial `at` writes a file of 32 KB before it ends, and leaves it there."""
    return PortableEvaluator(factory="tabled:open_writing", document={"at": at, "folder": str(folder)})


class Writing(TabulatedEvaluator):
    """Writes a file before the end of one trial."""

    def __init__(self, folder: Path, *, at: int) -> None:
        super().__init__(table)
        self._folder = folder
        self._at = at

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run the trial."""
        for event in super().evaluate(trial):
            if trial.number == self._at and isinstance(event, Ended):
                write_file(self._folder / "file", b"0" * 32_000)
            yield event


def open_writing(document: dict[str, Any]) -> Evaluator:
    """The factory."""
    return Writing(Path(document["folder"]), at=document["at"])


def open_tabled(document: dict[str, Any]) -> Evaluator:
    """The factory."""
    if document["at"] is None:
        return TabulatedEvaluator(table)
    name = document.get("error")
    if name is None:
        return Troubled(at=document["at"], error=None)
    kind = getattr(errors, name, None) or {"RuntimeError": RuntimeError, "ValueError": ValueError}[name]
    return Troubled(at=document["at"], error=kind(document["message"]))


def open_never(document: dict[str, Any]) -> Evaluator:
    """The factory."""

    def unwanted(schedule: Schedule, fidelity: Fidelity) -> list[dict[str, float]]:
        raise AssertionError("nothing is left to evaluate")

    return TabulatedEvaluator(unwanted)

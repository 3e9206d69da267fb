"""Progress reports of long-running work. The default reports nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Protocol, TypeVar

from sparsesearch.value import Value

_T = TypeVar("_T")


class WorkProgress(Value):
    """How far a piece of long work is: an epoch of a training, or a measurement.

    Attributes:
        label: What it is, for example `supernet training, epoch 3 of 10`.
        done: Completed steps.
        total: All steps; None if that is not known.
        trial: Number of its trial; None for work of the study as a whole.
        images_per_s: Images trained per second; None if unknown, or if no images are trained.
        left_s: Estimated remaining seconds; None if unknown.
        note: What the last step reported, for example its loss.
    """

    label: str
    done: int
    total: int | None
    trial: int | None = None
    images_per_s: float | None = None
    left_s: float | None = None
    note: str = ""


class Bar(Protocol):
    """A progress bar."""

    def advance(self, amount: int = 1, *, note: str | None = None) -> None:
        """Advance by `amount` units."""

    def __enter__(self) -> Bar:
        """Show the bar."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the bar."""


class Progress(Protocol):
    """Receives progress reports."""

    def bar(self, label: str, total: int | None, *, trial: int | None = None, batch_size: int | None = None) -> Bar:
        """Make a bar for a piece of work, which is shown while its block runs.

        Args:
            label: What the work is, for example `fine-tuning, epoch 3 of 10`.
            total: All steps; None if that is not known.
            trial: Number of its trial; None for work of a study as a whole, or of none.
            batch_size: Images trained in each step; None if no images are trained.
        """

    def line(self, text: str) -> None:
        """Print one permanent line."""


def advancing(items: Iterable[_T], bar: Bar) -> Iterator[_T]:
    """Yield items, and advance a bar after each."""
    for item in items:
        yield item
        bar.advance()


class _SilentBar:
    def advance(self, amount: int = 1, *, note: str | None = None) -> None:
        """Do nothing."""

    def __enter__(self) -> _SilentBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Do nothing."""


class Silent:
    """Reports nothing."""

    def bar(self, label: str, total: int | None, *, trial: int | None = None, batch_size: int | None = None) -> Bar:
        """Make an invisible bar."""
        return _SilentBar()

    def line(self, text: str) -> None:
        """Drop the line."""


_: Progress = Silent()

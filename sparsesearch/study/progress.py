"""Progress reports of long-running work. The default reports nothing."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


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

    def bar(self, label: str, total: int) -> Bar:
        """Make a bar for work of `total` units."""

    def line(self, text: str) -> None:
        """Print one permanent line."""


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

    def bar(self, label: str, total: int) -> Bar:
        """Make an invisible bar."""
        return _SilentBar()

    def line(self, text: str) -> None:
        """Drop the line."""


_: Progress = Silent()

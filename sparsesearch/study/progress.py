"""How long work tells people where it is. The default tells nobody."""

from __future__ import annotations

from types import TracebackType
from typing import Protocol


class Bar(Protocol):
    """One piece of work under way."""

    def advance(self, amount: int = 1, *, note: str | None = None) -> None:
        """So much more is done."""

    def __enter__(self) -> Bar:
        """Show it."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Take it away."""


class Progress(Protocol):
    """Where pieces of work announce themselves."""

    def bar(self, label: str, total: int) -> Bar:
        """A new piece of work of `total` units."""

    def line(self, text: str) -> None:
        """One line worth keeping."""


class _SilentBar:
    def advance(self, amount: int = 1, *, note: str | None = None) -> None:
        """Show nothing."""

    def __enter__(self) -> _SilentBar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Show nothing."""


class Silent:
    """Shows nothing."""

    def bar(self, label: str, total: int) -> Bar:
        """A bar nobody sees."""
        return _SilentBar()

    def line(self, text: str) -> None:
        """Drop the line."""


_: Progress = Silent()

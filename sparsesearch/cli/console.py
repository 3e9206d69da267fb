"""What people see: progress bars and tables, on standard error so that standard output stays for results."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_PIPE_WIDTH = 160
"""Columns of a table that goes into a file or a pipe, which has no width of its own."""


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


err = _console(stderr=True)
out = _console(stderr=False)


def say(text: str, *, style: str | None = None) -> None:
    """Lines for people, never broken, so that paths and commands in them can be copied."""
    err.print(text, style=style, soft_wrap=True)


def program() -> str:
    """How to call this program from here, for commands that people are to type next.

    `sparsesearch` where the shell finds this very program by that name, else its path.
    """
    called = Path(sys.argv[0])
    found = shutil.which("sparsesearch")
    if not called.is_file() or (found is not None and called.samefile(found)):
        return "sparsesearch"
    return os.path.relpath(called)


class _RichBar:
    def __init__(self, progress: Progress, label: str, total: int) -> None:
        self._progress = progress
        self._label = label
        self._total = total
        self._task: TaskID | None = None

    def advance(self, amount: int = 1, *, note: str | None = None) -> None:
        """Move on."""
        if self._task is not None:
            self._progress.update(self._task, advance=amount, note=note or "")

    def __enter__(self) -> _RichBar:
        self._task = self._progress.add_task(self._label, total=self._total, note="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._progress.remove_task(self._task)


class ConsoleProgress:
    """Progress bars that appear while work is under way, and lines that stay.

    Use as a context manager. On something that is no terminal only the lines are printed.
    """

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<28}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=err,
            transient=True,
            disable=quiet or not err.is_terminal,
        )

    def bar(self, label: str, total: int) -> _RichBar:
        """A bar for one piece of work."""
        return _RichBar(self._progress, label, total)

    def line(self, text: str) -> None:
        """A line that stays."""
        if not self._quiet:
            self._progress.console.print(text, soft_wrap=True)

    def __enter__(self) -> ConsoleProgress:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

"""The two consoles: standard error for people, standard output for results."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from rich.console import Console

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

"""The two consoles: standard error for messages, standard output for results."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path

from rich.console import Console

from sparsesearch.redact import without_password

_PIPE_WIDTH = 160
"""Width of tables that are written to a file or a pipe."""


def _console(*, stderr: bool) -> Console:
    console = Console(stderr=stderr, highlight=False, markup=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _PIPE_WIDTH
    return console


err = _console(stderr=True)
out = _console(stderr=False)


def say(text: str, *, style: str | None = None) -> None:
    """Print a message to standard error, without passwords, and unwrapped so that paths and commands can be copied."""
    err.print(without_password(text), style=style, soft_wrap=True)


def program() -> str:
    """Return how to invoke this program, for suggested commands.

    This is `sparsesearch` if the shell resolves that name to this program, otherwise its path, or `python -m
    sparsesearch` where it was called like that; with `--server URL` if it was called with it.
    """
    called = Path(sys.argv[0])
    found = shutil.which("sparsesearch")
    if called.name == "__main__.py":
        name = f"{Path(sys.executable).name} -m sparsesearch"
    elif not called.is_file() or (found is not None and called.samefile(found)):
        name = "sparsesearch"
    else:
        name = os.path.relpath(called)
    return " ".join([name, *_server_option(sys.argv[1:])])


def _server_option(arguments: list[str]) -> list[str]:
    """The option of the program itself, which precedes the command."""
    if arguments[:1] == ["--server"]:
        return [shlex.quote(word) for word in arguments[:2]]
    return [shlex.quote(word) for word in arguments[:1] if word.startswith("--server=")]

"""`--progress`: how a command tells what it does."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from sparsesearch.cli.console import err, say
from sparsesearch.cli.jsonl import JsonLinesReporter
from sparsesearch.cli.live import LiveReporter
from sparsesearch.cli.plain import PlainReporter
from sparsesearch.cli.reporter import Reporter

OUTPUT_PANEL = "Output"


class ProgressMode(StrEnum):
    """How a command tells what it does.

    Attributes:
        AUTO: LIVE at a terminal, else PLAIN.
        LIVE: A view on standard error that is redrawn in place.
        PLAIN: Lines on standard error.
        JSONL: Events on standard output, one JSON object a line, the result last.
        QUIET: Errors only.
    """

    AUTO = "auto"
    LIVE = "live"
    PLAIN = "plain"
    JSONL = "jsonl"
    QUIET = "quiet"


ProgressOption = Annotated[
    ProgressMode,
    typer.Option(
        "--progress",
        metavar="MODE",
        envvar="SPARSESEARCH_PROGRESS",
        help="live: a view that is redrawn. plain: lines. jsonl: events as JSON lines on standard output, the result "
        "last. quiet: errors only. auto: live at a terminal, else plain.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="The same as --progress quiet.", rich_help_panel=OUTPUT_PANEL)
]


def open_reporter(mode: ProgressMode, *, quiet: bool = False) -> Reporter:
    """What tells people, or programs, of a command's work.

    Args:
        mode: As wished.
        quiet: The short form of `quiet`, which wins.
    """
    can_redraw = err.is_terminal and not err.is_dumb_terminal
    if quiet or mode is ProgressMode.QUIET:
        return Reporter()
    if mode is ProgressMode.JSONL:
        return JsonLinesReporter()
    if mode is ProgressMode.LIVE and not can_redraw:
        say("warning: standard error is no terminal that can be redrawn; --progress plain instead", style="yellow")
    if mode is ProgressMode.PLAIN or not can_redraw:
        return PlainReporter()
    return LiveReporter()

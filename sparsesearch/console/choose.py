"""Choose how a command, or a call from Python, reports its progress."""

from __future__ import annotations

from enum import StrEnum

from sparsesearch.console.jsonl import JsonLinesReporter
from sparsesearch.console.live import LiveReporter
from sparsesearch.console.plain import PlainReporter
from sparsesearch.console.reporter import Reporter
from sparsesearch.console.streams import err, say


class ProgressMode(StrEnum):
    """How a command reports its progress.

    Attributes:
        AUTO: LIVE in a terminal, otherwise PLAIN.
        LIVE: A view on standard error that is redrawn in place.
        PLAIN: Lines on standard error.
        JSONL: Events on standard output, one JSON object per line, the result last.
        QUIET: Errors only.
    """

    AUTO = "auto"
    LIVE = "live"
    PLAIN = "plain"
    JSONL = "jsonl"
    QUIET = "quiet"


def open_reporter(mode: ProgressMode, *, quiet: bool = False) -> Reporter:
    """Create the reporter for a command.

    Args:
        mode: The requested mode.
        quiet: Whether `--quiet` was given, which overrides `mode`.
    """
    can_redraw = err.is_terminal and not err.is_dumb_terminal
    if quiet or mode is ProgressMode.QUIET:
        return Reporter()
    if mode is ProgressMode.JSONL:
        return JsonLinesReporter()
    if mode is ProgressMode.LIVE and not can_redraw:
        say("warning: standard error is not a terminal that can redraw; using --progress plain", style="yellow")
    if mode is ProgressMode.PLAIN or not can_redraw:
        return PlainReporter()
    return LiveReporter()

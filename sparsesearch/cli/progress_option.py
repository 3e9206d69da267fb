"""`--progress`: how a command reports its progress."""

from __future__ import annotations

from typing import Annotated

import typer

from sparsesearch.console.choose import ProgressMode

OUTPUT_PANEL = "Output"


ProgressOption = Annotated[
    ProgressMode,
    typer.Option(
        "--progress",
        metavar="MODE",
        envvar="SPARSESEARCH_PROGRESS",
        help="live: a view that is redrawn in place. plain: lines. jsonl: events as JSON lines on standard output, the "
        "result last. quiet: errors only. auto: live in a terminal, otherwise plain.",
        rich_help_panel=OUTPUT_PANEL,
    ),
]
QuietOption = Annotated[
    bool, typer.Option("--quiet", "-q", help="Same as --progress quiet.", rich_help_panel=OUTPUT_PANEL)
]

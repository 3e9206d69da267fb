"""Options and parsing that several commands share."""

from __future__ import annotations

import re
from typing import Annotated

import typer

from sparsesearch.errors import SpecError
from sparsesearch.settings import Settings
from sparsesearch.store.sql import SqlStore, open_store

DatabaseOption = Annotated[
    str | None,
    typer.Option(
        "--database",
        metavar="URL",
        help="Study database, e.g. sqlite:///studies.db or postgresql://... "
        "[default: $SPARSESEARCH_DATABASE_URL, else studies.db in $SPARSESEARCH_HOME]",
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON for scripts instead of a table.")]


def open_settings(database: str | None) -> tuple[Settings, SqlStore]:
    """Settings and the opened store."""
    settings = Settings.from_environment(database_url=database)
    return settings, open_store(settings.database_url)


def parse_duration(text: str) -> float:
    """Seconds of `90s`, `10m`, `1h30m`, or a plain number of seconds.

    Raises:
        SpecError: Not of that form.
    """
    match = re.fullmatch(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s?)?", text.strip())
    if not text.strip() or match is None:
        raise SpecError(f"cannot read the duration {text!r}; write 90s, 10m or 1h30m")
    hours, minutes, seconds = (float(part or 0.0) for part in match.groups())
    total = hours * 3600 + minutes * 60 + seconds
    if total <= 0:
        raise SpecError(f"the duration {text!r} is not positive")
    return total


def parse_numbers(text: str, *, what: str) -> list[float]:
    """Numbers of a comma-separated list; an empty text is an empty list.

    Raises:
        SpecError: An entry is not a number.
    """
    try:
        return [float(part) for part in text.split(",") if part.strip()]
    except ValueError as error:
        raise SpecError(f"cannot read {what} {text!r}; write numbers with commas between") from error

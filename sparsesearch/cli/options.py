"""Options and parsing that several commands share."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Any

import typer

from sparsesearch.errors import SpecError
from sparsesearch.settings import Settings
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.spec import Budget


def database_option(panel: str | None = None) -> Any:
    """`--database`, in a panel of the help."""
    return typer.Option(
        "--database",
        metavar="URL",
        help="Study database, e.g. sqlite:///studies.db or postgresql://... "
        "[default: $SPARSESEARCH_DATABASE_URL, else studies.db in $SPARSESEARCH_HOME]",
        rich_help_panel=panel,
    )


def json_option(panel: str | None = None) -> Any:
    """`--json`, in a panel of the help."""
    return typer.Option(
        "--json",
        help="Print JSON for scripts: the last line of standard output is the document.",
        rich_help_panel=panel,
    )


def _known_device(device: str | None) -> str | None:
    if device is not None and re.fullmatch(r"auto|cpu|cuda(:\d+)?", device) is None:
        raise SpecError(f"no device is called {device!r}; say auto, cpu, cuda or cuda:0")
    return device


def device_option(panel: str | None = None) -> Any:
    """`--device`, in a panel of the help."""
    return typer.Option(
        "--device",
        callback=_known_device,
        metavar="NAME",
        help="auto, cpu or cuda[:N]. [default: auto]",
        rich_help_panel=panel,
    )


DatabaseOption = Annotated[str | None, database_option()]
JsonOption = Annotated[bool, json_option()]
StudyArgument = Annotated[str, typer.Argument(help="Name of the study; see: sparsesearch studies")]
DeviceOption = Annotated[str | None, device_option()]


def open_settings(database: str | None) -> tuple[Settings, SqlStore]:
    """Settings and the opened store."""
    settings = Settings.from_environment(database_url=database)
    return settings, open_store(settings.database_url)


def parse_budget(gflops: str | None, share: str | None, ms: str | None = None) -> Budget | None:
    """The budget of `--budget-gflops`, `--budget` or `--budget-ms`, None if none is given.

    Raises:
        SpecError: Several are given, or one cannot be read.
    """
    given = {"--budget-gflops": gflops, "--budget": share, "--budget-ms": ms}
    named = [flag for flag, text in given.items() if text is not None]
    if len(named) > 1:
        raise SpecError(f"give either {' or '.join(named)}, not both")
    if ms is not None:
        return Budget.parse(ms, "ms")
    if gflops is not None:
        return Budget.parse(gflops, "gflops")
    return None if share is None else Budget.parse(share, "fraction")


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


def check_target(path: Path) -> Path:
    """The path of a file that is to be written, once it is sure that it can be: before the work, not after it.

    Raises:
        SpecError: It is a folder, or nothing can be written there.
    """
    if path.is_dir():
        raise SpecError(f"{path} is a folder; name a file in it, such as {path / 'best.yaml'}")
    check_folder(path.parent)
    return path


def check_folder(path: Path) -> Path:
    """A folder that exists or can be made, to write files into.

    Raises:
        SpecError: Part of it is a file, or it cannot be written.
    """
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise SpecError(f"{nearest} is a file, so nothing can be written below it; name another place")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise SpecError(f"the folder {nearest} cannot be written; name another place")
    return path

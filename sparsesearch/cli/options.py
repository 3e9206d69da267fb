"""Options and parsers shared by several commands."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesearch.errors import SpecError
from sparsesearch.settings import Settings
from sparsesearch.study.spec.data import MAX_IMAGE_SIZE

if TYPE_CHECKING:
    from sparsesearch.store.sql import SqlStore


def database_option(panel: str | None = None) -> Any:
    """Return the `--database` option, listed in a panel of the help."""
    return typer.Option(
        "--database",
        metavar="URL",
        help="URL of the study database, e.g. sqlite:///studies.db or postgresql://... "
        "[default: $SPARSESEARCH_DATABASE_URL, else studies.db in $SPARSESEARCH_HOME]",
        rich_help_panel=panel,
    )


def json_option(panel: str | None = None) -> Any:
    """Return the `--json` option, listed in a panel of the help."""
    return typer.Option(
        "--json",
        help="Print the result as JSON: the last line of standard output is the document.",
        rich_help_panel=panel,
    )


def _check_device(device: str | None) -> str | None:
    if device is not None and re.fullmatch(r"auto|cpu|cuda(:\d+)?", device) is None:
        raise SpecError(f"invalid device {device!r}; choose auto, cpu, cuda or cuda:0")
    return device


def device_option(panel: str | None = None, *, help: str = "auto, cpu or cuda[:N]. [default: auto]") -> Any:
    """Return the `--device` option, listed in a panel of the help."""
    return typer.Option(
        "--device",
        callback=_check_device,
        metavar="NAME",
        help=help,
        rich_help_panel=panel,
    )


def parse_image_size(text: str) -> int:
    """Parse `--image-size`: one number, as images are square.

    Raises:
        SpecError: It is none, or out of range.
    """
    if not text.strip().isdigit():
        raise SpecError(f"invalid image size {text!r}: images are square; give one number of pixels, such as 256")
    if not 8 <= (size := int(text)) <= MAX_IMAGE_SIZE:
        raise SpecError(f"invalid image size {text}; give 8 to {MAX_IMAGE_SIZE} pixels")
    return size


DatabaseOption = Annotated[str | None, database_option()]
JsonOption = Annotated[bool, json_option()]
StudyArgument = Annotated[str, typer.Argument(help="Name of the study; see: sparsesearch studies")]
DeviceOption = Annotated[str | None, device_option()]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]


def open_settings(database: str | None) -> tuple[Settings, SqlStore]:
    """Read the settings and open the study store."""
    from sparsesearch.store.sql import open_store  # loads SQLAlchemy, which not every command needs

    settings = Settings.from_environment(database_url=database)
    return settings, open_store(settings.database_url)


def check_output_file(path: Path) -> Path:
    """Check that a file can be written, so that a command fails before its work and not after it.

    Raises:
        SpecError: The path is a folder, or is not writable.
    """
    if path.is_dir():
        raise SpecError(f"{path} is a folder; give a file in it, such as {path / 'best.yaml'}")
    check_folder(path.parent)
    return path


def check_new_file(path: Path, *, force: bool) -> Path:
    """Check that a file can be written without losing another, for files that took work: recipes, models, profiles.

    Pictures and reports, which can be drawn again from what is stored, are overwritten.

    Args:
        path: The file.
        force: Whether it may exist.

    Raises:
        SpecError: It exists, is a folder, or is not writable.
    """
    if check_output_file(path).exists() and not force:
        raise SpecError(f"{path} already exists; choose another file with -o, or overwrite it with --force")
    return path


def check_folder(path: Path) -> Path:
    """Check that files can be written into a folder, which need not exist yet.

    Raises:
        SpecError: Part of the path is a file, or the folder is not writable.
    """
    nearest = next(folder for folder in (path, *path.absolute().parents) if folder.exists())
    if not nearest.is_dir():
        raise SpecError(f"{nearest} is a file, not a folder; choose another output path")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise SpecError(f"the folder {nearest} is not writable; choose another output path")
    return path

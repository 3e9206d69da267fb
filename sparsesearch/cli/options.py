"""Options and parsers shared by several commands."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sparsesearch.errors import SpecError
from sparsesearch.schedule.image_size import ImageSize, as_image_size
from sparsesearch.settings import Settings

if TYPE_CHECKING:
    from sparsesearch.store.sql import SqlStore
    from sparsesearch.study.protocols import Studies


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


def parse_image_size(text: str) -> ImageSize:
    """Parse `--image-size`.

    Raises:
        SpecError: It is no size, or out of range.
    """
    try:
        return as_image_size(text)
    except ValueError as error:
        raise SpecError(str(error)) from error


def image_size_option(panel: str | None = None) -> Any:
    """Return the `--image-size` option, listed in a panel of the help."""
    return typer.Option(
        "--image-size",
        parser=parse_image_size,
        metavar="N|HxW",
        help="Image size in pixels: 224, or height x width, 256x192. [default: the backbone's]",
        rich_help_panel=panel,
    )


DatabaseOption = Annotated[str | None, database_option()]
JsonOption = Annotated[bool, json_option()]
StudyArgument = Annotated[str, typer.Argument(help="Name of the study; see: sparsesearch studies")]
DeviceOption = Annotated[str | None, device_option()]
ForceOption = Annotated[bool, typer.Option("--force", help="Overwrite an existing file.")]


def server(database: str | None) -> str | None:
    """The address of the service that a command is for; None for a database."""
    return None if database is not None else os.environ.get("SPARSESEARCH_SERVER") or None


def open_studies(database: str | None) -> Studies:
    """Open the studies of the service of `--server`, else those of the database."""
    address = server(database)
    if address is None:
        return open_settings(database)[1]
    from sparsesearch.service.client import ServiceClient
    from sparsesearch.service.remote_store import RemoteStore

    return RemoteStore(ServiceClient(address))


def open_settings(database: str | None) -> tuple[Settings, SqlStore]:
    """Read the settings and open the study store.

    Raises:
        SpecError: The command is for a service, which cannot do it.
    """
    from sparsesearch.store.sql import open_store  # loads SQLAlchemy, which not every command needs

    refuse_server(database)
    settings = Settings.from_environment(database_url=database)
    return settings, open_store(settings.database_url)


def refuse_server(database: str | None) -> None:
    """Refuse a command for a service that works on a database. Raises `SpecError`."""
    address = server(database)
    if address is not None:
        raise SpecError(
            f"this command works on a database, not on the service {address}; leave out --server and unset "
            "SPARSESEARCH_SERVER, or give --database URL"
        )

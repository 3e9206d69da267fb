"""`db`: the schema of the study database."""

from __future__ import annotations

import typer

from sparsesearch.cli.console import out
from sparsesearch.cli.options import DatabaseOption
from sparsesearch.settings import Settings
from sparsesearch.store import migrate

app = typer.Typer(help="The schema of the study database.", no_args_is_help=True)


@app.command()
def upgrade(database: DatabaseOption = None) -> None:
    """Bring an older database to this version's schema."""
    url = Settings.from_environment(database_url=database).database_url
    migrate.upgrade(url)
    out.print(f"{url} is at revision {migrate.current_revision(url)}")


@app.command()
def current(database: DatabaseOption = None) -> None:
    """Show the schema revision of a database."""
    url = Settings.from_environment(database_url=database).database_url
    out.print(f"{url} is at revision {migrate.current_revision(url)}")

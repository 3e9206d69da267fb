"""`db`: show and upgrade the schema of the study database."""

from __future__ import annotations

import typer

from sparsesearch.cli.options import DatabaseOption, refuse_server
from sparsesearch.settings import Settings
from sparsesearch.store import migrate

app = typer.Typer(help="Show or upgrade the schema of the study database.", no_args_is_help=True)


@app.command()
def upgrade(database: DatabaseOption = None) -> None:
    """Upgrade an older database to the schema of this version. Modifies the database; back it up first.

    Example: sparsesearch db upgrade --database sqlite:///studies.db
    """
    revision = migrate.upgrade(_url(database))
    typer.echo(f"the database is at revision {revision}")


@app.command()
def current(database: DatabaseOption = None) -> None:
    """Show the schema revision of a database. Read-only.

    Example: sparsesearch db current
    """
    revision = migrate.current_revision(_url(database))
    typer.echo(f"the database is at revision {revision}" if revision else "the database is empty")


def _url(database: str | None) -> str:
    refuse_server(database)
    return Settings.from_environment(database_url=database).database_url

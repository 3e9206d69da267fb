"""`token`: access tokens of the service."""

from __future__ import annotations

import getpass
import json
import time
from typing import Annotated

import typer
from rich.table import Table

from sparsesearch.app.run_arguments import parse_duration
from sparsesearch.cli.options import DatabaseOption, JsonOption, open_settings
from sparsesearch.console.streams import out, say
from sparsesearch.store.audit import Actor
from sparsesearch.study.access import Scope

app = typer.Typer(help="Create, list and revoke access tokens of the service.", no_args_is_help=True)


@app.callback()
def token() -> None:
    """Create, list and revoke access tokens of the service."""


@app.command()
def create(
    name: Annotated[str, typer.Argument(help="Its name, which is the owner of the studies that it submits.")],
    scope: Annotated[
        Scope,
        typer.Option(help="read: look at everything; submit: also run studies of one's own; admin: everything."),
    ] = Scope.SUBMIT,
    expires: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Lifetime, such as 12h or 30d. [default: unlimited]")
    ] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create a token and print its secret, which is shown only now: the database has its hash.

    For example:

    sparsesearch token create alice --scope submit --expires 30d

    sparsesearch token create ci --json
    """
    _, store = open_settings(database)
    lifetime = None if expires is None else parse_duration(expires)
    secret = store.tokens.create(name, scope, by=_actor(), lifetime_s=lifetime)
    if as_json:
        typer.echo(json.dumps({"token": secret, "name": name, "scope": scope.value}))
        return
    say(f"token {name} ({scope.value}); it is not shown again:")
    typer.echo(secret)


@app.command("list")
def list_tokens(database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """List tokens, without their secrets.

    Example: sparsesearch token list
    """
    _, store = open_settings(database)
    found = store.tokens.all()
    if as_json:
        typer.echo(json.dumps([one.model_dump(mode="json") for one in found]))
        return
    if not found:
        typer.echo("No tokens yet. Create one with: sparsesearch token create NAME")
        return
    table = Table()
    for column in ("name", "scope", "created", "expires", "last used", "state"):
        table.add_column(column)
    now = time.time()
    for one in found:
        state = "revoked" if one.revoked_at is not None else "valid" if one.is_valid(now) else "expired"
        table.add_row(
            one.name, one.scope.value, _date(one.created_at), _date(one.expires_at), _date(one.used_at), state
        )
    out.print(table)


@app.command()
def revoke(name: Annotated[str, typer.Argument(help="Name of the token.")], database: DatabaseOption = None) -> None:
    """Make a token invalid at once. The studies that it submitted stay.

    Example: sparsesearch token revoke alice
    """
    _, store = open_settings(database)
    store.tokens.revoke(name, by=_actor())
    say(f"token {name} is revoked")


def _actor() -> Actor:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        user = "unknown"
    return Actor(f"{user} (command line)")


def _date(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))

"""`--server`: commands that work on the studies of a service as on those of a database."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer
from rich.live import Live

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.status import StudyStatus
from sparsesearch.analysis.view import StudyView
from sparsesearch.app.export_recipe import export_recipe
from sparsesearch.app.read_front import front_document
from sparsesearch.app.read_status import read_status
from sparsesearch.app.write_results import PICTURE, RECIPE
from sparsesearch.console.rich_tables import front_table
from sparsesearch.console.status_view import status_view
from sparsesearch.console.streams import err, program, say
from sparsesearch.errors import InfrastructureError, StudyFailedError
from sparsesearch.files.durable import write_file
from sparsesearch.report.page import REPORT
from sparsesearch.service.client import ServiceClient
from sparsesearch.service.remote_store import RemoteStore
from sparsesearch.study.state import StudyState

_WATCH_S = 2.0


def run_remotely(
    server: str, document: Mapping[str, Any], *, priority: int, output: Path | None, quiet: bool, as_json: bool
) -> None:
    """Submit a study to a service, follow it to its end, and fetch its files.

    Ctrl-C ends only the following.

    Args:
        server: Address of the service.
        document: The study.
        priority: Its priority.
        output: Folder for its files; None for one of its name.
        quiet: Whether nothing is shown until it ends.
        as_json: Whether the front is printed as JSON.
    """
    client = ServiceClient(server)
    store = RemoteStore(client)
    name = client.submit(document, priority=priority)
    say(f"study {name} is submitted to {client.server}")
    try:
        found = _follow(store, name, quiet=quiet)
    except KeyboardInterrupt:
        say(f"the study goes on; follow it with: {program()} status {name} --watch")
        raise typer.Exit(130) from None
    if found.condition.state is StudyState.FAILED:
        raise StudyFailedError(f"study {name!r} failed: {found.condition.reason}")
    if found.condition.state is not StudyState.FINISHED:
        say(f"study {name} is {found.condition.word}" + _why(found))
        return
    view = StudyView.of(store, name)
    folder = output or Path(name)
    export_recipe(store, name, folder / RECIPE, force=True)
    for file, path in ((PICTURE, "front?format=png"), (REPORT, "report")):
        write_file(folder / file, client.get(f"/studies/{name}/{path}").content)
    err.print(front_table(describe_front(view)))
    say(f"report:  {folder / REPORT}\npicture: {folder / PICTURE}\nrecipe:  {folder / RECIPE}")
    if as_json:
        typer.echo(json.dumps(front_document(view)))


def _follow(store: RemoteStore, name: str, *, quiet: bool) -> StudyStatus:
    """Show the status until the study is over, or was paused; a service that is away for a while is waited for."""
    found = read_status(store, name)
    if quiet or not err.is_terminal:
        shown = ""
        while _goes_on(found):
            line = f"study {name}: {found.condition.word}" + _why(found)
            if line != shown and not quiet:
                say(line)
            shown = line
            time.sleep(_WATCH_S)
            found = _again(store, found)
        return found
    with Live(status_view(found), console=err, auto_refresh=False) as live:
        while _goes_on(found):
            time.sleep(_WATCH_S)
            found = _again(store, found)
            live.update(status_view(found), refresh=True)
    return found


def _again(store: RemoteStore, found: StudyStatus) -> StudyStatus:
    try:
        return read_status(store, found.spec.name)
    except InfrastructureError:
        return found


def _goes_on(found: StudyStatus) -> bool:
    state = found.condition.state
    return state is StudyState.QUEUED or state.is_active


def _why(found: StudyStatus) -> str:
    return f" ({found.condition.reason})" if found.condition.reason else ""

"""`status`: show the progress of a study, while it runs and afterwards."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from sparsesearch.analysis.status import StudyStatus
from sparsesearch.app.read_status import read_status
from sparsesearch.cli.options import DatabaseOption, JsonOption, StudyArgument, open_studies
from sparsesearch.cli.tracking import database_flag
from sparsesearch.console.status_view import status_view
from sparsesearch.console.streams import out, program
from sparsesearch.errors import SpecError
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.state import StudyState

WATCH_SECONDS = 2.0


def status(
    study: StudyArgument,
    watch: Annotated[
        bool, typer.Option("--watch", help="Refresh every 2 s until the study ends or Ctrl-C is pressed.")
    ] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the progress of a study, from any terminal: phases, running trials, best result, and next commands.

    Read-only.

    For example:

    sparsesearch status deit_pico-35p --watch

    sparsesearch status deit_pico-35p --json
    """
    if watch and as_json:
        raise SpecError("--watch cannot be combined with --json; give one of them")
    store = open_studies(database)
    found = read_status(store, study)
    if as_json:
        typer.echo(json.dumps(found.document()))
    elif watch and _is_live(found):
        _watch(store, found, database)
    else:
        out.print(_shown(found, database))


def _watch(records: StudyRecords, found: StudyStatus, database: str | None) -> None:
    try:
        with Live(_shown(found, database, watched=True), console=out, auto_refresh=False) as live:
            while _is_live(found):
                time.sleep(WATCH_SECONDS)
                found = read_status(records, found.spec.name)
                live.update(_shown(found, database, watched=True), refresh=True)
    except KeyboardInterrupt:
        return


def _shown(found: StudyStatus, database: str | None, *, watched: bool = False) -> RenderableType:
    """Render the status and the suggested next commands."""
    name, tail = found.spec.name, database_flag(database)
    if _is_live(found) and watched:
        note = Text("Ctrl-C closes this view; the study keeps running", style="dim")
        return Group(status_view(found), Text(), note)
    match found.condition.state:
        case _ if _is_live(found):
            hints = [("watch", f"status {name} --watch{tail}"), ("pause", f"pause {name}{tail}")]
        case StudyState.FAILED:
            hints = [("show the error", f"trials {name}{tail}"), ("delete", f"delete {name}{tail}")]
        case StudyState.FINISHED | StudyState.CANCELLED:
            hints = [
                ("show the front", f"front {name}{tail}"),
                ("export the best", f"export {name}{tail} -o best.yaml"),
                ("train it in full", f"retrain best.yaml -o {name}.safetensors"),
            ]
        case _:
            hints = [("resume", f"resume {name}{tail}")]
    width = max(len(what) for what, _ in hints)
    lines = [f"{what:<{width}}  {program()} {command}" for what, command in hints]
    return Group(status_view(found), Text(), *(Text(line, overflow="fold") for line in lines))


def _is_live(found: StudyStatus) -> bool:
    """Whether a living process works on the study."""
    return found.condition.state.is_active and found.condition.is_leased

"""`status`: how far a study is, while it runs and afterwards."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from sparsesearch.analysis.status import StudyState, StudyStatus
from sparsesearch.analysis.view import StudyView
from sparsesearch.cli.console import out, program
from sparsesearch.cli.options import DatabaseOption, JsonOption, StudyArgument, open_settings
from sparsesearch.cli.status_view import status_view
from sparsesearch.cli.tracking import named
from sparsesearch.errors import SpecError
from sparsesearch.study.protocols import StudyRecords

WATCH_SECONDS = 2.0


def status(
    study: StudyArgument,
    watch: Annotated[bool, typer.Option("--watch", help="Look again every 2 s until the study ends; Ctrl-C.")] = False,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show how far a study is, from any terminal: phases, what runs, the best so far, and what to type next.

    Reads the study database and changes nothing.

    For example:

    sparsesearch status deit_pico-35p --watch

    sparsesearch status deit_pico-35p --json
    """
    if watch and as_json:
        raise SpecError("--watch is for people and --json prints one document; give one of them")
    _, store = open_settings(database)
    found = look(store, study)
    if as_json:
        typer.echo(json.dumps(found.document()))
    elif watch and found.state is StudyState.RUNNING:
        _watch(store, found, database)
    else:
        out.print(_shown(found, database))


def look(records: StudyRecords, study: str) -> StudyStatus:
    """Where a stored study stands now.

    Raises:
        StudyNotFoundError: There is none of that name.
    """
    is_leased = records.is_leased(study)  # before its trials: so a study that ends meanwhile is not called interrupted
    return StudyStatus.of(StudyView.of(records, study), is_leased=is_leased, now=time.time())


def _watch(records: StudyRecords, found: StudyStatus, database: str | None) -> None:
    try:
        with Live(_shown(found, database, watched=True), console=out, auto_refresh=False) as live:
            while found.state is StudyState.RUNNING:
                time.sleep(WATCH_SECONDS)
                found = look(records, found.spec.name)
                live.update(_shown(found, database, watched=True), refresh=True)
    except KeyboardInterrupt:
        return


def _shown(found: StudyStatus, database: str | None, *, watched: bool = False) -> RenderableType:
    """The view, and what to type next."""
    name, tail = found.spec.name, named(database)
    match found.state:
        case StudyState.RUNNING if watched:
            return Group(status_view(found), Text(), Text("Ctrl-C ends the looking; the study goes on", style="dim"))
        case StudyState.RUNNING:
            hints = [("follow it", f"status {name} --watch{tail}")]
        case StudyState.INTERRUPTED:
            hints = [("go on", f"resume {name}{tail}")]
        case StudyState.FAILED:
            hints = [("why", f"trials {name}{tail}"), ("begin anew", f"delete {name}{tail}")]
        case StudyState.FINISHED:
            hints = [
                ("all it found", f"front {name}{tail}"),
                ("its recipe", f"export {name}{tail} -o best.yaml"),
                ("train it in full", f"retrain best.yaml -o {name}.safetensors"),
            ]
    width = max(len(what) for what, _ in hints)
    lines = [f"{what:<{width}}  {program()} {command}" for what, command in hints]
    return Group(status_view(found), Text(), *(Text(line, overflow="fold") for line in lines))

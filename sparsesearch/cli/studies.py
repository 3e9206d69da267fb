"""`studies`, `show`, `trials`, `front`, `delete`: list, inspect and delete stored studies."""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Annotated, Literal

import typer
import yaml
from rich.table import Table

from sparsesearch.analysis.words import accuracy_warning, meaningful_text
from sparsesearch.app.delete_study import delete_study
from sparsesearch.app.read_front import described, front_document, shown_axis, view_of_front
from sparsesearch.app.workspace import Workspace
from sparsesearch.artifacts.output_files import check_output_file
from sparsesearch.cli.options import DatabaseOption, JsonOption, StudyArgument, open_studies, server
from sparsesearch.cli.paper import WithPaperOption, open_paper, paper_table
from sparsesearch.console.rich_tables import front_table, trials_table
from sparsesearch.console.streams import out, say
from sparsesearch.errors import SpecError, StudyFailedError
from sparsesearch.study.trial import TrialState

STUDIES_SHOWN = 200
"""Studies in the table of `studies`, unless another number is asked for."""

TRIALS_SHOWN = 200
"""Trials in the table of `trials`, unless another number is asked for."""


def studies(
    limit: Annotated[
        int | None,
        typer.Option(
            min=0, help="At most this many, the newest; 0 for all.", show_default=f"{STUDIES_SHOWN}; all with --json"
        ),
    ] = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List studies, oldest first. Read-only.

    For example:

    sparsesearch studies

    sparsesearch studies --database postgresql://me@host/studies --json
    """
    store = open_studies(database)
    if limit is None and not as_json:
        limit = STUDIES_SHOWN
    found = store.summaries(newest=limit or None)
    if as_json:
        typer.echo(json.dumps([summary.document() for summary in found]))
        return
    if not found:
        typer.echo("No studies yet. Start one with: sparsesearch run --backbone deit_pico --budget 35%")
        return
    table = Table()
    shown = ("study", "state", "backbone", "budget", "data", "trials")
    for column in (*shown, "best val accuracy"):
        table.add_column(column)
    for summary in found:
        spec, best = summary.spec, summary.best
        row = {**summary.document(), "state": summary.condition.word}
        best_text = "" if best is None else meaningful_text(spec, best) if spec.meaningful else "not meaningful"
        table.add_row(*(str(row[key]) for key in shown), best_text)
    out.print(table)
    if limit == len(found) and (total := len(store.studies())) > limit:
        say(f"the newest {limit:,} of {total:,} studies; all: --limit 0")


def show(study: StudyArgument, database: DatabaseOption = None, as_json: JsonOption = False) -> None:
    """Show the document of a study and the number of trials in each state.

    The output without its last line is a study document that runs the same study again.

    Example: sparsesearch show deit_pico-35p
    """
    store = open_studies(database)
    spec = store.spec(study)
    counts: Counter[str] = Counter()
    for one in store.digest(study).counts:
        counts[one.state.value] += one.count
    if as_json:
        condition = store.condition(study).model_dump(mode="json")
        typer.echo(json.dumps({"spec": spec.model_dump(mode="json"), **condition, "states": dict(counts)}))
        return
    typer.echo(yaml.safe_dump(spec.model_dump(mode="json", exclude={"resolved"}), sort_keys=False))
    typer.echo("trials: " + (", ".join(f"{number} {state}" for state, number in sorted(counts.items())) or "none"))


def trials(
    study: StudyArgument,
    state: Annotated[
        list[TrialState] | None,
        typer.Option("--state", case_sensitive=False, help="Only trials in this state; may be repeated."),
    ] = None,
    limit: Annotated[
        int | None,
        typer.Option(min=0, help="At most this many; 0 for all.", show_default=f"{TRIALS_SHOWN}; all with --json"),
    ] = None,
    offset: Annotated[int, typer.Option(min=0, help="Skip this many.")] = 0,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the trials of a study: schedule, cost, accuracy, and the reason if one failed or was stopped.

    For example:

    sparsesearch trials deit_pico-35p --state FAILED

    sparsesearch trials deit_pico-35p --offset 200

    sparsesearch trials deit_pico-35p --json
    """
    store = open_studies(database)
    spec = store.spec(study)
    if limit is None and not as_json:
        limit = TRIALS_SHOWN
    chosen = store.trials(study, states=state or None, offset=offset, limit=limit or None)
    if as_json:
        typer.echo(json.dumps([{**trial.public(), **accuracy_warning(spec)} for trial in chosen]))
        return
    out.print(trials_table(spec, chosen))
    total = store.digest(study).number(where=lambda one: not state or one in state)
    if len(chosen) < total:
        last = offset + len(chosen)
        shown = f"{offset + 1:,} to {last:,} of {total:,} trials" if chosen else f"none of {total:,} trials"
        say(f"{shown}; {f'the next: --offset {last}; ' if last < total else ''}all: --limit 0")


def front(
    study: StudyArgument,
    x: Annotated[
        Literal["macs", "ms", "both"] | None,
        typer.Option(
            "--x",
            metavar="macs|ms|both",
            help="Cost axis: multiply-adds, milliseconds, or both at once. [default: the unit of the budget]",
        ),
    ] = None,
    png: Annotated[Path | None, typer.Option(metavar="FILE", help="Also plot the front to this file.")] = None,
    with_paper: WithPaperOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the Pareto front of a study: validation accuracy against multiply-adds or milliseconds.

    Milliseconds are available if the study has a target; `~` marks predicted ones. --with-paper overlays the published
    schedules of a paper for rho 0.5 to 0.9, with exact multiply-adds and the accuracies published on ImageNet. Writes
    nothing unless --png is given.

    For example:

    sparsesearch front deit_pico-35p --png front.png

    sparsesearch front deit_s-65p --with-paper deit_s
    """
    if png is not None:
        check_output_file(png)
    store = open_studies(database)
    view = view_of_front(store, study, x, is_whole=png is not None or with_paper is not None)
    if with_paper is not None and shown_axis(view.spec, x) == "ms" and png is not None:
        raise SpecError("published schedules have no milliseconds; plot them against multiply-adds with --x macs")
    paper = None if with_paper is None else open_paper(with_paper, view)
    if png is not None:
        from sparsesearch.visualize.front_plot import save_front

        picture = described(view, None if x == "both" else x, paper=paper)
        if picture.dense is None:
            raise StudyFailedError(f"study {study!r} has no results to plot yet")
        save_front(picture, png)
    if as_json:
        typer.echo(json.dumps(front_document(view, x, paper=paper)))
        return
    shown = described(view, x, paper=paper)
    out.print(front_table(shown))
    if paper is not None:
        out.print(paper_table(paper))
        say(f"source: {paper.family.source}")
        if paper.caveat:
            say(f"note: {paper.caveat}", style="yellow")


def delete(
    study: StudyArgument,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask for confirmation.")] = False,
    database: DatabaseOption = None,
) -> None:
    """Delete a study with its trials and checkpoints. Shared dense and supernet trainings remain in the cache.

    Example: sparsesearch delete deit_pico-35p --yes
    """
    workspace = None if server(database) is not None else Workspace.open(database)
    store = open_studies(database) if workspace is None else workspace.store
    count = store.digest(study).num_trials
    if not yes:
        if not sys.stdin.isatty():
            raise SpecError(f"study {study!r} has {count} trials; use --yes to delete them without confirmation")
        if not typer.confirm(f"Delete study {study!r} with {count} trials?"):
            typer.echo("nothing was deleted")
            return
    if workspace is None:
        store.delete_study(study)
    else:
        delete_study(workspace, study)
    typer.echo(f"deleted {study} ({count} trials)")

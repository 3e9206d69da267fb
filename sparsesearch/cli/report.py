"""`report`: write the report of a study as one HTML page."""

from __future__ import annotations

import json
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from sparsesearch.analysis.view import StudyView
from sparsesearch.app.workspace import Workspace
from sparsesearch.artifacts.output_files import check_output_file
from sparsesearch.cli.options import DatabaseOption, JsonOption, StudyArgument, open_studies, server
from sparsesearch.cli.paper import WithPaperOption, open_paper, view_with_results
from sparsesearch.console.streams import say
from sparsesearch.errors import SpecError
from sparsesearch.files.durable import write_file


def report(
    study: StudyArgument,
    out: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Output file. [default: STUDY/report.html]"),
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    with_paper: WithPaperOption = None,
    database: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write a report of a study: results, parameter importances, cost of the search, and convergence.

    Contains the Pareto front, the hypervolume over trials, the regret of hand-crafted baselines, the best schedules by
    depth, parameter importances, and how well shared weights rank schedules. The page is one file without scripts and
    needs no network. A study that is still running can be reported too. `run` writes the report when it ends, and
    MLflow shows it. --json prints the numbers instead, and writes the page only if -o is given.

    For example:

    sparsesearch report deit_pico-20p-45p --open

    sparsesearch report deit_pico-20p-45p -o report.html

    sparsesearch report deit_pico-20p-45p --json
    """
    from sparsesearch.analysis.findings import Findings
    from sparsesearch.app.write_results import write_report
    from sparsesearch.report.page import REPORT, findings_page

    if open_it and as_json and out is None:
        raise SpecError("--open needs a page, but --json writes none; name one with -o report.html")
    is_remote = server(database) is not None
    workspace = None if is_remote else Workspace.open(database)
    store = open_studies(database) if workspace is None else workspace.store
    view = view_with_results(StudyView.of(store, study))
    path = out or (None if as_json else Path(study) / REPORT)
    if path is not None:
        check_output_file(path)
    paper = None if with_paper is None else open_paper(with_paper, view)
    found = Findings.of(view, paper=paper)
    if path is not None:
        if workspace is None:
            write_file(path, findings_page(found))
        else:
            write_report(workspace, found, path)
        if open_it and not webbrowser.open(path.absolute().as_uri()):
            say(f"could not start a browser; open {path} manually")
    if as_json:
        typer.echo(json.dumps(found.document()))
        return
    typer.echo(f"report: {path}")
    say(found.convergence.sentence)
    for warning in view.warnings:
        say(f"note: {warning}", style="yellow")

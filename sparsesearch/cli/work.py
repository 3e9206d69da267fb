"""Run an open study and report its results: the part that `run` and `resume` share."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from sparsesearch.analysis.describe_front import describe_front
from sparsesearch.analysis.view import StudyView
from sparsesearch.app.run_study import Execution, run_study
from sparsesearch.app.workspace import Workspace
from sparsesearch.app.write_results import StudyResult, write_results
from sparsesearch.cli.tracking import database_flag, open_tracker
from sparsesearch.console.reporter import Reporter
from sparsesearch.console.rich_tables import front_table
from sparsesearch.console.streams import err, program, say
from sparsesearch.errors import InfrastructureError
from sparsesearch.study.observer import Observers
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.state import StudyState
from sparsesearch.study.stop import StopCause, StoppedError, StopToken


def work(
    writer: StudyWriter,
    workspace: Workspace,
    reporter: Reporter,
    *,
    mlflow: bool,
    started: float,
    database: str | None,
    execution: Execution = lambda spec: spec,
) -> bool:
    """Run an open study to its end, or until it is to stop.

    Args:
        writer: The open study; closed on return.
        workspace: Where everything is.
        reporter: Reports progress; entered by the caller.
        mlflow: Whether the study is logged to MLflow.
        started: Start of the time budget, by `time.monotonic`.
        database: The `--database` flag.
        execution: Changes how the stored study is executed.

    Returns:
        Whether there are results to write: the study finished, or `sparsesearch stop` ended it after its first results.
    """
    store, name = workspace.store, writer.spec.name
    resume = f"{program()} resume {name}{database_flag(database)}"
    reporter.read_from(store)
    tracker = open_tracker(store, workspace.settings, reporter, enabled=mlflow, database=database)
    stop = StopToken(on_stop=lambda cause: _announce(cause, reporter))
    try:
        state = run_study(
            workspace,
            writer,
            board=reporter.board,
            observer=Observers([reporter, tracker]),
            stop=stop,
            started=started,
            execution=execution,
        )
    except (StoppedError, InfrastructureError):
        if stop.cause is not StopCause.LEASE_LOST:
            reporter.line(f"resume with: {resume}")
        raise
    if state is StudyState.FINISHED:
        return True
    reporter.line(f"study {name} is {state.value.lower()}" + ("" if state.is_over else f"; resume with: {resume}"))
    if stop.cause is not StopCause.STOP:
        return False
    has_results = bool(StudyView.of(store, name).front.points)
    if not has_results:
        reporter.line("there are no results yet, so no files were written")
    return has_results


def _announce(cause: StopCause, reporter: Reporter) -> None:
    """Tell the user that the work under way is saved first."""
    text = "stopping as soon as the work so far is saved"
    if cause is StopCause.INTERRUPT:
        text += "; press Ctrl-C again to stop immediately"
    reporter.line(text)


def written(study: str, workspace: Workspace, folder: Path, reporter: Reporter) -> StudyResult:
    """Write the files of a study; see `write_results` for errors."""
    with reporter.bar("writing the results", None):
        return write_results(workspace, study, folder)


def report(result: StudyResult, workspace: Workspace, reporter: Reporter, *, mlflow: bool, as_json: bool) -> None:
    """Report the result of a study, after its reporter was left.

    Args:
        result: The result.
        workspace: Where everything is.
        reporter: Reports the result.
        mlflow: Whether the study was logged to MLflow.
        as_json: Whether to print the result as JSON.
    """
    if reporter.prints_summary:
        err.print(front_table(describe_front(StudyView.of(workspace.store, result.spec.name))))
        say(f"report:  {result.report}\npicture: {result.front_png}\nrecipe:  {result.recipe}")
        if mlflow:
            say(f"explore: {program()} ui")
        if result.model is not None:
            say(f"The best schedule needs no training: sparsesearch.load({str(result.model)!r}) is ready to use.")
            say(f"Training it makes it better: {program()} retrain {result.recipe}")
        else:
            say(f"Next, train the best schedule in full: {program()} retrain {result.recipe}")
    document = result.document()
    reporter.result(document)
    if as_json and not reporter.prints_result:
        typer.echo(json.dumps(document))

"""Run an open study and report its results: the part that `run` and `resume` share."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from sparsesearch.analysis.view import StudyView
from sparsesearch.cli.console import err, program, say
from sparsesearch.cli.reporter import Reporter
from sparsesearch.cli.rich_tables import front_table
from sparsesearch.cli.tracking import database_flag
from sparsesearch.cli.watch import StudyWatch
from sparsesearch.settings import Settings
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.protocols import StudyWriter, Tracker
from sparsesearch.study.spec import StudySpec


def work(
    writer: StudyWriter,
    store: SqlStore,
    settings: Settings,
    reporter: Reporter,
    *,
    tracker: Tracker,
    started: float,
    database: str | None,
    spec: StudySpec | None = None,
) -> None:
    """Run an open study to its end.

    Args:
        writer: The open study; closed on return.
        store: The store of the study.
        settings: Where checkpoints and shared trainings are.
        reporter: Reports progress.
        tracker: Logs the study while it runs.
        started: Start of the time budget, by `time.monotonic`.
        database: The `--database` flag.
        spec: The study as it is executed, by default as stored.
    """
    from sparsesearch.app.run_study import run_study

    spec = spec or writer.spec
    view = StudyView(spec=spec, trials=tuple(writer.trials()), times=store.times(spec.name))
    reporter.follow(StudyWatch(view))
    try:
        run_study(
            writer,
            settings,
            progress=reporter,
            on_trial=reporter.changed,
            on_progress=reporter.changed,
            tracker=tracker,
            started=started,
            spec=spec,
        )
    except KeyboardInterrupt:
        reporter.line(f"resume with: {program()} resume {spec.name}{database_flag(database)}")
        raise


def report(spec: StudySpec, store: SqlStore, folder: Path, reporter: Reporter, *, mlflow: bool, as_json: bool) -> None:
    """Write the files of a finished study and report the result.

    Args:
        spec: The study as stored.
        store: The store of the study.
        folder: Output folder.
        reporter: Reports the result.
        mlflow: Whether the study was logged to MLflow.
        as_json: Whether to print the result as JSON.
    """
    from sparsesearch.app.run_study import write_results
    from sparsesearch.artifacts.recipe import NOT_MEANINGFUL

    result = write_results(spec, store, folder)
    if reporter.prints_summary:
        err.print(front_table(spec, result.front, best=result.best))
        if not spec.meaningful:
            say(f"accuracy {NOT_MEANINGFUL}", style="yellow")
        say(f"report:  {result.report}\npicture: {result.front_png}\nrecipe:  {result.recipe}")
        if mlflow:
            say(f"explore: {program()} ui")
        say(f"Next, train the best schedule in full: {program()} retrain {result.recipe}")
    best = result.best
    document: dict[str, object] = {
        "study": spec.name,
        "best": {
            "trial": best.number,
            "macs": best.cost.macs,
            "metrics": best.metrics,
            "schedule": best.schedule.model_dump(mode="json"),
            "label": best.label,
            "accuracy": "ok" if spec.meaningful else "not meaningful",
        },
        "recipe": str(result.recipe),
        "front_png": str(result.front_png),
        "report": str(result.report),
    }
    reporter.result(document)
    if as_json and not reporter.prints_result:
        typer.echo(json.dumps(document))

"""Work on an open study and tell what comes of it: what `run` and `resume` share."""

from __future__ import annotations

import json
from pathlib import Path

import typer

from sparsesearch.analysis.view import StudyView
from sparsesearch.cli.console import err, program, say
from sparsesearch.cli.reporter import Reporter
from sparsesearch.cli.rich_tables import front_table
from sparsesearch.cli.tracking import named
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
        store: Where it is.
        settings: Where checkpoints and shared trainings lie.
        reporter: Tells people.
        tracker: Shows the study while it runs.
        started: When the time budget began to run, by `time.monotonic`.
        database: The `--database` flag.
        spec: The study as it is executed; as stored if not given.
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
        reporter.line(f"go on with: {program()} resume {spec.name}{named(database)}")
        raise


def report(spec: StudySpec, store: SqlStore, folder: Path, reporter: Reporter, *, mlflow: bool, as_json: bool) -> None:
    """Write the files of a study that has ended, and tell what came out.

    Args:
        spec: The study as stored.
        store: Where it is.
        folder: Where the files go.
        reporter: How people are told.
        mlflow: Whether the study is shown there.
        as_json: Whether the result is wanted as JSON.
    """
    from sparsesearch.app.run_study import write_results
    from sparsesearch.artifacts.recipe import NOT_MEANINGFUL

    result = write_results(spec, store, folder)
    if reporter.tells_people:
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
    if as_json and not reporter.tells_result:
        typer.echo(json.dumps(document))

"""`ui` and `mlflow`: look at studies in a browser, and bring MLflow up to date."""

from __future__ import annotations

from typing import Annotated

import typer

from sparsesearch.cli.console import out, program, say
from sparsesearch.cli.options import DatabaseOption, open_settings
from sparsesearch.errors import TrackingError
from sparsesearch.settings import Settings
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import StudyRecords, Tracker

app = typer.Typer(help="Show studies in MLflow.", no_args_is_help=True)


@app.callback()
def mlflow() -> None:
    """Show studies in MLflow."""


@app.command()
def sync(
    studies: Annotated[list[str] | None, typer.Argument(metavar="[STUDY]...", help="[default: all studies]")] = None,
    database: DatabaseOption = None,
) -> None:
    """Bring MLflow up to date with the study database, or fill an MLflow that is new.

    A run shows itself in MLflow; this is for what was run while MLflow could not be reached, or with --no-mlflow, and
    for what was deleted there. What is there already stays as it is.

    Example: sparsesearch mlflow sync my-study
    """
    from sparsesearch.app.tracker import mlflow_address, study_sync

    settings, store = open_settings(database)
    names = studies or list(store.studies())
    if not names:
        out.print("No studies yet.")
    for name in names:
        store.spec(name)  # a wrong name is refused before anything is done
    for name in names:
        changes = study_sync(store, settings, name).run(is_live=False)
        words = [
            f"{number} {what}"
            for number, what in (
                (changes.created, "runs new"),
                (changes.changed, "runs brought up to date"),
                (changes.removed, "doubles removed"),
            )
            if number
        ]
        if changes.files:
            words.append("page and tables renewed")
        out.print(f"{name}: {', '.join(words) or 'nothing to do'}", markup=False)
    out.print(f"MLflow: {mlflow_address(settings).shown}", markup=False, soft_wrap=True)


def ui(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port. [default: 5000, or a free one if that is taken]")
    ] = None,
) -> None:
    """Open the MLflow pages of all studies on this machine; Ctrl-C ends it.

    Only programs on this machine can reach the address that is printed.

    Example: sparsesearch ui --port 5001
    """
    from sparsesearch.app.tracker import mlflow_address
    from sparsesearch.tracking.ui_server import UiServer

    address = mlflow_address(Settings.from_environment())
    if address.is_server:
        out.print(f"MLflow is a server of its own; open {address.shown}", markup=False, soft_wrap=True)
        return
    say("starting MLflow, some seconds ...")
    with UiServer(address, port=port) as server:
        out.print(f"MLflow: {server.url} (Ctrl-C ends it)", markup=False, soft_wrap=True)
        try:
            code = server.wait()
        except KeyboardInterrupt:
            return
    raise TrackingError(f"MLflow's server stopped by itself with exit code {code}")


def open_tracker(
    records: StudyRecords, settings: Settings, progress: Progress, *, wanted: bool, database: str | None
) -> Tracker:
    """What shows a run while it works.

    Args:
        records: The store.
        settings: Where MLflow is.
        progress: Gets the lines that people should see.
        wanted: Whether the study is to be shown at all.
        database: The `--database` flag.
    """
    from sparsesearch.app.tracker import mlflow_tracker
    from sparsesearch.tracking.null import NullTracker

    if not wanted:
        return NullTracker()
    command = f"{program()} mlflow sync{named(database)}"
    return mlflow_tracker(records, settings, report=progress.line, sync_command=command)


def named(database: str | None) -> str:
    """The database as part of a command that people type next."""
    return "" if database is None else f" --database {database}"

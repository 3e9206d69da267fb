"""`ui` and `mlflow`: show studies in a browser, and sync them to MLflow."""

from __future__ import annotations

import shlex
from typing import Annotated

import typer

from sparsesearch.cli.options import DatabaseOption, open_settings
from sparsesearch.console.streams import err, out, program, say
from sparsesearch.errors import TrackingError
from sparsesearch.redact import without_password
from sparsesearch.settings import Settings
from sparsesearch.study.observer import NoObserver, StudyObserver
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import StudyRecords

app = typer.Typer(help="Show studies in MLflow.", no_args_is_help=True)


@app.callback()
def mlflow() -> None:
    """Show studies in MLflow."""


@app.command()
def sync(
    studies: Annotated[list[str] | None, typer.Argument(metavar="[STUDY]...", help="[default: all studies]")] = None,
    database: DatabaseOption = None,
) -> None:
    """Sync studies from the study database to MLflow.

    A running study is synced automatically. Use this command after a run with --no-mlflow or while MLflow was not
    available, for an empty MLflow, or to restore runs that were deleted in MLflow. Runs that are up to date are not
    changed.

    Example: sparsesearch mlflow sync my-study
    """
    from sparsesearch.app.tracker import mlflow_address, study_sync

    settings, store = open_settings(database)
    names = studies or list(store.studies())
    if not names:
        out.print("No studies yet.")
    for name in names:
        store.spec(name)  # reject unknown names before anything is written
    for name in names:
        changes = study_sync(store, settings, name).run(is_live=False)
        words = [
            f"{number} {what}"
            for number, what in (
                (changes.created, "runs created"),
                (changes.changed, "runs updated"),
                (changes.removed, "duplicate runs removed"),
            )
            if number
        ]
        if changes.note is not None:
            err.print(changes.note, markup=False, soft_wrap=True)
        if changes.files:
            words.append("page and tables updated")
        out.print(f"{name}: {', '.join(words) or 'up to date'}", markup=False)
    out.print(f"MLflow: {mlflow_address(settings).shown}", markup=False, soft_wrap=True)


def ui(
    port: Annotated[
        int | None, typer.Option(min=1, max=65535, help="Port. [default: 5000, or a free port if that is in use]")
    ] = None,
) -> None:
    """Serve the MLflow pages of all studies on this machine until Ctrl-C is pressed.

    The printed address is accessible from this machine only.

    Example: sparsesearch ui --port 5001
    """
    from sparsesearch.app.tracker import mlflow_address
    from sparsesearch.tracking.ui_server import UiServer

    address = mlflow_address(Settings.from_environment())
    if address.is_server:
        out.print(f"MLflow runs as a server; open {address.shown}", markup=False, soft_wrap=True)
        return
    say("starting MLflow, which takes some seconds ...")
    with UiServer(address, port=port) as server:
        out.print(f"MLflow: {server.url} (press Ctrl-C to stop)", markup=False, soft_wrap=True)
        try:
            code = server.wait()
        except KeyboardInterrupt:
            return
    raise TrackingError(f"the MLflow server stopped unexpectedly with exit code {code}; check the MLflow database")


def open_tracker(
    records: StudyRecords, settings: Settings, progress: Progress, *, enabled: bool, database: str | None
) -> StudyObserver:
    """Create the observer that logs a run to MLflow.

    Args:
        records: The store.
        settings: Where MLflow is.
        progress: Receives messages for the user.
        enabled: Whether the study is logged to MLflow.
        database: The `--database` flag.
    """
    from sparsesearch.app.tracker import mlflow_tracker

    if not enabled:
        return NoObserver()
    command = f"{program()} mlflow sync{database_flag(database)}"
    return mlflow_tracker(records, settings, report=progress.line, sync_command=command)


def database_flag(database: str | None) -> str:
    """Return the `--database` flag as part of a suggested command, without a password."""
    return "" if database is None else f" --database {shlex.quote(without_password(database))}"

"""`stop`, `pause`, `cancel` and `retry`: change the course of a study from any terminal."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from sparsesearch.cli.options import DatabaseOption, StudyArgument, open_settings, open_studies
from sparsesearch.cli.tracking import database_flag
from sparsesearch.console.streams import program, say
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState

_POLL_SECONDS = 0.5

WaitOption = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the work has stopped. Ctrl-C stops only the waiting.")
]


def stop(study: StudyArgument, wait: WaitOption = True, database: DatabaseOption = None) -> None:
    """Stop a study after the step under way, and let its process write the results so far.

    The study is PAUSED: `sparsesearch resume` continues it. Works from any terminal that uses the same database.

    Example: sparsesearch stop deit_pico-35p
    """
    _request(study, StopRequest.STOP, wait=wait, database=database)


def pause(study: StudyArgument, wait: WaitOption = True, database: DatabaseOption = None) -> None:
    """Stop a study after the step under way; `sparsesearch resume` continues it.

    Works from any terminal that uses the same database.

    Example: sparsesearch pause deit_pico-35p
    """
    _request(study, StopRequest.PAUSE, wait=wait, database=database)


def cancel(study: StudyArgument, wait: WaitOption = True, database: DatabaseOption = None) -> None:
    """Stop a study after the step under way, for good: it cannot be resumed. Its results are kept.

    Works from any terminal that uses the same database.

    Example: sparsesearch cancel deit_pico-35p
    """
    _request(study, StopRequest.CANCEL, wait=wait, database=database)


def retry(
    study: StudyArgument,
    trial: Annotated[int | None, typer.Argument(help="Number of the trial. [default: all that have failed]")] = None,
    database: DatabaseOption = None,
) -> None:
    """Let failed trials run again from their last checkpoints, when the study is resumed.

    For trials that failed because of something that has been fixed since. Faults of disks, databases and machines
    do not fail a trial: the study pauses, and `sparsesearch resume` continues it.

    For example:

    sparsesearch retry my-study

    sparsesearch retry my-study 17
    """
    _, store = open_settings(database)
    retried = store.queue.retry(study, number=trial)
    what = f"trial {retried[0].number} runs" if len(retried) == 1 else f"{len(retried)} trials run"
    typer.echo(f"{what} again with: {program()} resume {study}{database_flag(database)}")


def _request(study: str, request: StopRequest, *, wait: bool, database: str | None) -> None:
    store = open_studies(database)
    found = store.request(study, request)
    if found.state is StudyState.STOPPING and wait:
        say(f"study {study} stops after the step under way ...")
        found = _stopped(store, study)
    hint = f"; resume with: {program()} resume {study}{database_flag(database)}"
    typer.echo(f"study {study} is {found.word}" + (hint if found.state is StudyState.PAUSED else ""))


def _stopped(records: StudyRecords, study: str) -> StudyCondition:
    """Wait until no process works on the study, and return its condition."""
    while True:
        found = records.condition(study)
        if not found.is_leased or not found.state.is_active:
            return found
        time.sleep(_POLL_SECONDS)

"""`sparsesearch.run`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any, Unpack

from sparsesearch.api.study import Study
from sparsesearch.api.work import Progress, work
from sparsesearch.app.run_arguments import RunArguments, requested_document
from sparsesearch.app.start_study import discarded_if_invalid, start_study
from sparsesearch.app.study_request import read_request
from sparsesearch.app.workspace import Workspace
from sparsesearch.console.choose import ProgressMode, open_reporter


def run(
    document: str | Path | Mapping[str, Any] | None = None,
    *,
    database: str | None = None,
    output: str | Path | None = None,
    mlflow: bool = True,
    progress: Progress = "auto",
    **options: Unpack[RunArguments],
) -> Study:
    """Find the best sparsification schedule of a backbone under a budget; the same as the command `sparsesearch run`.

    The first Ctrl-C (in a notebook: the stop button) stops the study after the step under way, the second one at
    once; either way the study is PAUSED, and `Study.resume` continues it.

    Args:
        document: A study document as a file or as plain data; the options override its keys.
        database: Address or file of the study database; None for the default one.
        output: Folder for `best.yaml`, `report.html` and `front.png`; None writes no files.
        mlflow: Whether the study is logged to MLflow.
        progress: `live` redraws a view in place, `plain` prints lines, `quiet` nothing; `auto` is `live` in a terminal.
        options: See `RunArguments`: `backbone`, one of `budget`, `budget_gflops` and `budget_ms`, and all others.

    Returns:
        The study, which is FINISHED, or was stopped by a request from another process.

    Raises:
        UserInputError: The study asks for something that is not possible; the message says how to fix it.
        StudyFailedError: The study could not be completed.
        KeyboardInterrupt: Ctrl-C; the study is PAUSED.

    Example:
        >>> study = sparsesearch.run(backbone="deit_pico", budget="35%", time_budget="3m")
        >>> study.front()
    """
    given = document if isinstance(document, Mapping) else read_request(None if document is None else Path(document))
    workspace = Workspace.open(database)
    with open_reporter(ProgressMode(progress)) as reporter:
        writer = start_study(requested_document(given, options), workspace, progress=reporter)
    study = Study(writer.spec.name, workspace)
    with discarded_if_invalid(workspace.store, study.name), closing(writer):
        work(workspace, writer, output=output, mlflow=mlflow, progress=progress)
    return study

"""Run an open study in this process: the part that `run` and `Study.resume` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sparsesearch.app.workspace import Workspace
from sparsesearch.artifacts.output_files import check_folder
from sparsesearch.console.choose import ProgressMode, open_reporter
from sparsesearch.study.observer import Observers
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.state import StudyState
from sparsesearch.study.stop import StopCause, StoppedError

if TYPE_CHECKING:
    from sparsesearch.app.run_study import Execution

Progress = Literal["auto", "live", "plain", "quiet"]


def work(
    workspace: Workspace,
    writer: StudyWriter,
    *,
    output: str | Path | None,
    mlflow: bool,
    progress: Progress,
    execution: Execution = lambda spec: spec,
) -> None:
    """Run the open study, and write its files if it finishes.

    Raises:
        KeyboardInterrupt: Ctrl-C; the study is PAUSED.
    """
    from sparsesearch.app.run_study import run_study
    from sparsesearch.app.tracker import mlflow_tracker
    from sparsesearch.app.write_results import write_results

    folder = None if output is None else check_folder(Path(output))
    name, store = writer.spec.name, workspace.store
    with open_reporter(ProgressMode(progress)) as reporter:
        reporter.read_from(store)
        trackers = [mlflow_tracker(store, workspace.settings, report=reporter.line)] if mlflow else []
        observer = Observers([reporter, *trackers])
        try:
            state = run_study(workspace, writer, board=reporter.board, observer=observer, execution=execution)
        except StoppedError as error:
            if error.cause is StopCause.INTERRUPT:
                raise KeyboardInterrupt from error
            raise
    if folder is not None and state is StudyState.FINISHED:
        write_results(workspace, name, folder)

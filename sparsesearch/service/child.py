"""The process that runs one study for a controller: `python -m sparsesearch.service.child STUDY`.

It reads the lease that the controller has acquired from its input. When that input ends, the controller is lost: the
study is saved and goes back to the queue, as after SIGTERM.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from sparsesearch.analysis.view import StudyView
from sparsesearch.app.best_model import MODEL, write_best_model
from sparsesearch.app.run_study import run_study
from sparsesearch.app.storage import storage_of
from sparsesearch.app.tracker import mlflow_tracker
from sparsesearch.app.workspace import Workspace
from sparsesearch.app.write_results import StudyResult, write_results
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.errors import InfrastructureError, SparseSearchError, StaleAttemptError, UserInputError, one_line
from sparsesearch.service.confine import check_files
from sparsesearch.service.options import ServiceOptions
from sparsesearch.study.observer import NoObserver, Observers, StudyObserver
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.spec import StudySpec, executed_by
from sparsesearch.study.state import StudyState
from sparsesearch.study.stop import StopCause, StoppedError, StopToken
from sparsesearch.study.submission import Changes
from sparsesearch.study.trial import Trial
from sparsesearch.study.work_board import WorkBoard
from sparsesearch.training.published_weights import resolve_weights
from sparsesearch.visualize.best import write_best_picture

logger = logging.getLogger(__name__)


def main(study: str, lease: str) -> int:
    """Run a study, and return the exit code."""
    workspace = Workspace.open()
    board = WorkBoard(_line)
    stop = StopToken(on_stop=lambda cause: _line(f"stopping: {cause.value}"))
    _stop_with_the_controller(stop)
    try:
        writer = workspace.store.open_claimed(study, lease)
    except StaleAttemptError as error:
        _line(f"{error}")
        return 0
    submission = workspace.store.queue.submission(study)
    changes = Changes() if submission is None else submission.changes
    address = os.environ.get("SPARSESEARCH_RAY_ADDRESS") or None
    observers: list[StudyObserver] = [_Log()]
    if os.environ.get("SPARSESEARCH_MLFLOW"):
        command = f"sparsesearch mlflow sync {study}"
        observers.append(mlflow_tracker(workspace.store, workspace.settings, report=_line, sync_command=command))
    try:
        try:
            if writer.spec.resolved is None:
                roots = ServiceOptions.roots_of_environment()
                if roots:
                    check_files(writer.spec, roots)
                _with_weights(writer)
            _executed(changes.applied(writer.spec), address)
        except UserInputError as error:  # as `run_study` stores what it raises itself
            writer.set_state(StudyState.PAUSED, reason=one_line(error))
            writer.close()
            raise
        state = run_study(
            workspace,
            writer,
            board=board,
            observer=Observers(observers),
            stop=stop,
            execution=lambda spec: _executed(changes.applied(spec), address),
            given_back=StudyState.QUEUED,
        )
    except StoppedError as error:
        return 0 if error.cause in (StopCause.INTERRUPT, StopCause.TERMINATE, StopCause.LEASE_LOST) else error.exit_code
    if state is StudyState.FINISHED:
        _write(workspace, study)
    return 0


class _Log(NoObserver):
    """Writes a line for each trial that ends."""

    def changed(self, trial: Trial) -> None:
        """Write how a trial ended."""
        if trial.state.is_final:
            metrics = ", ".join(f"{name} {value:.4g}" for name, value in sorted(trial.metrics.items()))
            why = "" if trial.reason is None else f": {trial.reason}"
            _line(f"trial {trial.number} ({trial.fidelity.value}, {trial.label}) {trial.state.value}{why}; {metrics}")


def _with_weights(writer: StudyWriter) -> None:
    """Find published weights, which the service does not look for; the bundled data is trained on from scratch."""
    spec = writer.spec
    weights, line = resolve_weights(spec.weights, backbone=resolve_name(spec.backbone), or_scratch=spec.data.is_demo)
    if line is not None:
        _line(line)
    if weights != spec.weights:
        writer.resolve(spec.model_copy(update={"weights": weights}))


def _executed(spec: StudySpec, address: str | None) -> StudySpec:
    """The study as its controller executes it."""
    dispatcher = "ray" if address is not None else os.environ.get("SPARSESEARCH_DISPATCHER") or spec.dispatcher
    return executed_by(spec, dispatcher=dispatcher, resources={"ray_address": address})


def _write(workspace: Workspace, study: str) -> None:
    """Write the files of a finished study. The study is finished whatever happens to its files."""
    folder = os.environ.get("SPARSESEARCH_RESULTS")
    if not folder:
        return
    try:
        result = write_results(workspace, study, Path(folder) / study)
        _write_downloads(workspace, study, result)
        _line(f"results: {result.report.parent}")
    except (SparseSearchError, OSError) as error:
        logger.warning("the results could not be written: %s", error)


def _write_downloads(workspace: Workspace, study: str, result: StudyResult) -> None:
    """Write the best model with the weights that it was judged with, and the picture of its kept tokens."""
    folder, view = result.report.parent, StudyView.of(workspace.store, study)
    storage = storage_of(view.spec, workspace.settings)
    if result.model is None:
        write_best_model(view, folder / MODEL, storage=storage)
    write_best_picture(view, folder, storage=storage)


def _stop_with_the_controller(stop: StopToken) -> None:
    """Stop as on SIGTERM when the input ends."""

    def wait() -> None:
        with suppress(OSError):
            while os.read(sys.stdin.fileno(), 1024):
                pass
        stop.stop(StopCause.TERMINATE)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="controller", daemon=True).start()


def _line(text: str) -> None:
    sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {text}\n")
    sys.stdout.flush()


def run() -> int:
    """Read the arguments and the lease, and run."""
    (study,) = sys.argv[1:]
    lease = b""
    while not lease.endswith(b"\n"):
        byte = os.read(sys.stdin.fileno(), 1)
        if not byte:
            return 0
        lease += byte
    try:
        return main(study, lease.decode().strip())
    except InfrastructureError as error:
        _line(str(error))
        return error.exit_code
    except SparseSearchError as error:
        _line(str(error))
        return error.exit_code


if __name__ == "__main__":
    sys.exit(run())

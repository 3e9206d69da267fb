"""Run a stored study: resolve it, build its parts, run the dispatcher, and store how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing

from sparsesearch.app.confirm_front import confirm_front
from sparsesearch.app.last_resort import LastResort
from sparsesearch.app.lease_keeper import LeaseKeeper
from sparsesearch.app.parts import open_execution
from sparsesearch.app.reopen_damaged import reopen_damaged
from sparsesearch.app.resolve import resolve
from sparsesearch.app.signals import stopping_on_signals
from sparsesearch.app.storage import storage_of
from sparsesearch.app.workspace import Workspace
from sparsesearch.errors import (
    InfrastructureError,
    StaleAttemptError,
    StoreError,
    StoreUnavailableError,
    StudyFailedError,
    one_line,
)
from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.evaluate.opening import open_context
from sparsesearch.search.controller import StagedController
from sparsesearch.study.observer import NoObserver, Observers, StudyObserver, observed
from sparsesearch.study.progress import Silent
from sparsesearch.study.protocols import Done, StudyWriter
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyState
from sparsesearch.study.stop import StopCause, StoppedError, StopToken
from sparsesearch.study.work_board import WorkBoard
from sparsesearch.training.checkpoints import CheckpointFolder

logger = logging.getLogger(__name__)

Execution = Callable[[StudySpec], StudySpec]
"""Returns a study with another dispatcher or other resources, which are not stored."""


def run_study(
    workspace: Workspace,
    writer: StudyWriter,
    *,
    board: WorkBoard | None = None,
    observer: StudyObserver | None = None,
    stop: StopToken | None = None,
    started: float | None = None,
    execution: Execution = lambda spec: spec,
    given_back: StudyState = StudyState.PAUSED,
) -> StudyState:
    """Run an open study to its end, or until it is to stop; resolve it first if it is not resolved.

    While it runs in the main thread, the first Ctrl-C or SIGTERM stops the study after the step under way, the second
    one at once; while it is resolved, the first one does. Requests that other processes store are fulfilled likewise.

    Args:
        workspace: Where studies, profiles, checkpoints and shared trainings are.
        writer: The open study; closed on return.
        board: Shows the progress of long work.
        observer: Told what happens in the study.
        stop: Set to stop the study.
        started: Start of this run, by `time.monotonic`; by default now. Earlier runs count for the time budget as well.
        execution: Changes how the stored study is executed.
        given_back: State of the study when Ctrl-C or SIGTERM has ended the run: QUEUED if others are to go on with it.

    Returns:
        The state that the study ended in: FINISHED; or PAUSED, CANCELLED or QUEUED after a stored request.

    Raises:
        StoppedError: Ctrl-C, SIGTERM or a lost lease ended the run.
        UserInputError: The study asks for something that is not possible; it is PAUSED, with the reason.
        StudyFailedError: The dense or supernet training failed; the study is FAILED.
    """
    board = board or WorkBoard(Silent().line)
    stop = stop or StopToken()
    workspace.store.set_patience(
        execution(writer.spec).resources.patience_s, on_wait=board.line, give_up=lambda: stop.cause is not None
    )
    with (
        # Until the study is given free, which what is inside does last: a signal must not end the process before.
        stopping_on_signals(stop, at_once=False),
        closing(writer),
        LastResort(stop, at_last=lambda cause: _abandoned(writer, cause, given_back)),
        LeaseKeeper(writer, stop, work=board.work),
        stopping_on_signals(stop, at_once=True),
    ):
        try:
            done = _work(
                workspace,
                writer,
                board=board,
                observer=observer or NoObserver(),
                stop=stop,
                started=time.monotonic() if started is None else started,
                execution=execution,
            )
        except (KeyboardInterrupt, StoppedError) as error:
            cause = stop.cause or StopCause.INTERRUPT
            state = _stopped(writer, cause, given_back)
            if cause in _REQUESTED:
                return state
            raise StoppedError(cause) from error
        except StaleAttemptError:
            raise
        except StoreUnavailableError as error:
            raise InfrastructureError(str(error)) from error
        except StudyFailedError as error:
            _store_state(writer, StudyState.FAILED, reason=one_line(error))
            raise
        except Exception as error:
            _store_state(writer, StudyState.PAUSED, reason=one_line(error))
            raise
        writer.set_state(StudyState.FINISHED, reason=done.reason)
    if stop.cause in (StopCause.INTERRUPT, StopCause.TERMINATE):  # as it was ending
        raise StoppedError(stop.cause)
    return StudyState.FINISHED


def _work(
    workspace: Workspace,
    writer: StudyWriter,
    *,
    board: WorkBoard,
    observer: StudyObserver,
    stop: StopToken,
    started: float,
    execution: Execution,
) -> Done:
    """Do everything that ends with the study's last trial."""
    if writer.spec.resolved is None:
        found = resolve(
            writer.spec,
            progress=board,
            store=workspace.store,
            profiles=workspace.store.profiles,
            settings=workspace.settings,
        )
        writer.resolve(found)
        writer.set_state(StudyState.RUNNING)
    spec = execution(writer.spec)
    deadline = Deadline(
        started=started - writer.active_s,
        time_budget_s=spec.time_budget_s,
        clock=time.monotonic,
        evaluations_at_once=spec.proposal_batch,
    )
    folder = CheckpointFolder(storage_of(spec, workspace.settings), spec.name, writer.uid)
    with board.bar("verifying checkpoints", None):
        reopen_damaged(writer, folder, progress=board)
    with board.bar("opening data and backbone", None):
        context = open_context(spec)
        controller = StagedController(spec, context.geometry, may_start=deadline.may_start)
        observers = Observers([deadline, observer])
        dispatcher, evaluator = open_execution(
            spec,
            workspace.settings,
            folder=folder,
            context=context,
            deadline=deadline,
            board=board,
            observer=observers,
            stop=stop,
        )
    with observed(observers, spec.name):
        with stopping_on_signals(stop, at_once=False):
            done = dispatcher.run(controller, writer, evaluator)
        for trial in confirm_front(spec, writer, progress=board):
            observers.changed(trial)
    return done


def _stopped(writer: StudyWriter, cause: StopCause, given_back: StudyState) -> StudyState:
    """Store how a study was stopped, and return its state."""
    if cause is StopCause.LEASE_LOST:
        return StudyState.RUNNING
    state = _REQUESTED.get(cause, given_back)
    _store_state(writer, state, reason=_REASONS[cause])
    return state


def _abandoned(writer: StudyWriter, cause: StopCause, given_back: StudyState) -> None:
    """Store the state of a study whose process ends although its work hangs, and give the study free."""
    _stopped(writer, cause, given_back)
    writer.close()


def _store_state(writer: StudyWriter, state: StudyState, *, reason: str) -> None:
    """Store the state of a study that ends with an error, which no error of the store must hide."""
    try:
        writer.set_state(state, reason=reason)
    except (StoreError, StaleAttemptError) as error:
        logger.warning("the state of the study could not be stored: %s", error)


_REASONS = {
    StopCause.INTERRUPT: "Ctrl-C",
    StopCause.TERMINATE: "SIGTERM",
    StopCause.FAULT: "the Ray cluster did not answer",
    StopCause.PAUSE: f"sparsesearch {StopRequest.PAUSE.value}",
    StopCause.STOP: f"sparsesearch {StopRequest.STOP.value}",
    StopCause.CANCEL: f"sparsesearch {StopRequest.CANCEL.value}",
    StopCause.APPLY: "its resources were changed",
}
_REQUESTED = {
    StopCause.PAUSE: StudyState.PAUSED,
    StopCause.STOP: StudyState.PAUSED,
    StopCause.CANCEL: StudyState.CANCELLED,
    StopCause.APPLY: StudyState.QUEUED,
}

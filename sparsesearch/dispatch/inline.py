"""Run trials one after the other in this process, for small machines, debugging and tests."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import takewhile
from pathlib import Path

from sparsesearch.dispatch.failure_log import log_failure
from sparsesearch.dispatch.fault_pause import FaultPause
from sparsesearch.errors import StaleAttemptError, StoreError, UserInputError
from sparsesearch.infrastructure import infrastructure_fault
from sparsesearch.study.events import Checkpointed, Ended, Measured
from sparsesearch.study.observer import NoObserver, StudyObserver
from sparsesearch.study.protocols import Controller, Dispatcher, Done, Evaluator, StudyWriter, Wait
from sparsesearch.study.stop import StoppedError, StopToken
from sparsesearch.study.trial import NewTrial, Trial, TrialState, in_sequence, with_checkpoints


class InlineDispatcher:
    """Runs trials one after the other in this process; see `protocols.Dispatcher`.

    Evaluations are asked for in batches of the size that the study was resolved with.

    A trial whose evaluation raises becomes FAILED with the reason, and the study continues. Errors that every trial
    would raise (invalid user input, a lost lease) end the run. Faults of a disk, network or machine are no results: the
    trial stays RUNNING, and goes on from its last checkpoint when they have passed.

    Args:
        observer: Told every stored change of a trial.
        stop: Stops the run after the checkpoint of the epoch under way.
        logs: Folder for the tracebacks of failed trials; None to keep none.
        pause: Waits for faults to pass; None to end the run with them.
    """

    def __init__(
        self,
        *,
        observer: StudyObserver | None = None,
        stop: StopToken | None = None,
        logs: Path | None = None,
        pause: FaultPause | None = None,
    ) -> None:
        self._observer = observer or NoObserver()
        self._logs = logs
        self._pause = pause or FaultPause()
        self._stop = stop or StopToken()

    def run(self, controller: Controller, writer: StudyWriter, evaluator: Evaluator) -> Done:
        """Run trials until the controller is done; unfinished trials of the store run first."""
        waiting: list[Trial] = []
        for trial in writer.trials():
            controller.tell(trial)
            if not trial.state.is_final:
                waiting.append(trial)
        size = writer.spec.proposal_batch
        while True:
            self._check_stop()
            last = _ask(controller, writer, waiting, size=size)
            if not waiting:
                assert isinstance(last, Done), "the controller waits for a result, but no trial is running"
                return last
            batch = list(takewhile(_is_evaluation, waiting[:size])) or waiting[:1]
            del waiting[: len(batch)]
            claimed = writer.claim_all([trial.number for trial in batch])
            for trial in claimed:
                self._observer.changed(trial)
            for trial in in_sequence(claimed):
                self._check_stop()
                finished = self._run_trial(trial, writer, evaluator)
                controller.tell(finished)
                self._observer.changed(finished)

    def _run_trial(self, trial: Trial, writer: StudyWriter, evaluator: Evaluator) -> Trial:
        """Run a trial to its end; after a fault that has passed, go on from what is stored."""
        while not trial.state.is_final:
            try:
                for after in self._changes(trial, writer, evaluator):
                    trial = after
                    self._pause.passed()
                assert trial.state.is_final, "the evaluator stopped without ending the trial"
            except (StaleAttemptError, StoreError, StoppedError):
                raise
            except Exception as error:
                fault = infrastructure_fault(error, folders=() if self._logs is None else (self._logs.parent,))
                if fault is not None:
                    self._pause.wait(fault)
                    continue
                if isinstance(error, UserInputError):
                    raise
                reason = log_failure(error, trial, logs=self._logs)
                trial = writer.record(
                    Ended(trial=trial.number, attempt=trial.attempt, state=TrialState.FAILED, reason=reason)
                )
        return trial

    def _changes(self, trial: Trial, writer: StudyWriter, evaluator: Evaluator) -> Iterator[Trial]:
        """Evaluate a trial and record its events; yields it whenever it has changed."""
        references = writer.trials({TrialState.REFERENCE})
        for event in evaluator.evaluate(with_checkpoints(trial, references)):
            before, trial = trial, writer.record(event)
            if trial != before:
                yield trial
            if isinstance(event, Measured):
                self._observer.changed(trial)
            if isinstance(event, Checkpointed):
                self._check_stop()

    def _check_stop(self) -> None:
        if self._stop.check():
            self._stop.raise_if_set()


def _ask(
    controller: Controller, writer: StudyWriter, waiting: list[Trial], *, size: int
) -> NewTrial | Wait | Done | None:
    """Ask for a training, or for as many evaluations as run together, and return the last answer.

    They are stored in one transaction, and all of a batch are claimed before the first one runs. Hence the proposals of
    a resumed study are those of a study that was not interrupted.
    """
    asked: list[NewTrial] = []
    answer = None
    while len(waiting) + len(asked) < size and all(_is_evaluation(trial) and not trial.attempt for trial in waiting):
        answer = controller.ask()
        if not isinstance(answer, NewTrial):
            break
        asked.append(answer)
        if answer.fidelity.is_training:
            break
    if asked:
        waiting.extend(writer.add_trials(asked))
    return answer


def _is_evaluation(trial: Trial) -> bool:
    return not trial.fidelity.is_training


_: Dispatcher = InlineDispatcher()

"""Run trials one after the other in this process, for small machines, debugging and tests."""

from __future__ import annotations

import logging

from sparsesearch.errors import StaleAttemptError, UserInputError, one_line
from sparsesearch.study.events import Checkpointed, Ended, Measured
from sparsesearch.study.observer import NoObserver, StudyObserver
from sparsesearch.study.protocols import Controller, Dispatcher, Done, Evaluator, StudyWriter, Wait
from sparsesearch.study.stop import StoppedError, StopToken
from sparsesearch.study.trial import Trial, TrialState, with_checkpoints

logger = logging.getLogger(__name__)


class InlineDispatcher:
    """Runs trials one after the other in this process; see `protocols.Dispatcher`.

    A trial whose evaluation raises becomes FAILED with the reason, and the study continues. Errors that every trial
    would raise (invalid user input, a lost lease) end the run.

    Args:
        observer: Told every stored change of a trial.
        stop: Stops the run after the checkpoint of the epoch under way.
    """

    def __init__(
        self,
        *,
        observer: StudyObserver | None = None,
        stop: StopToken | None = None,
    ) -> None:
        self._observer = observer or NoObserver()
        self._stop = stop or StopToken()

    def run(self, controller: Controller, writer: StudyWriter, evaluator: Evaluator) -> Done:
        """Run trials until the controller is done; unfinished trials of the store run first."""
        unfinished: list[Trial] = []
        for trial in writer.trials():
            if trial.state.is_final:
                controller.tell(trial)
            else:
                unfinished.append(trial)
        while True:
            self._check_stop()
            if unfinished:
                waiting = unfinished.pop(0)
            else:
                asked = controller.ask()
                if isinstance(asked, Done):
                    return asked
                assert not isinstance(asked, Wait), "the controller waits for a result, but no trial is running"
                waiting = writer.add_trial(asked)
            finished = self._run_trial(waiting, writer, evaluator)
            controller.tell(finished)
            self._observer.changed(finished)

    def _run_trial(self, trial: Trial, writer: StudyWriter, evaluator: Evaluator) -> Trial:
        trial = writer.claim(trial.number)
        self._observer.changed(trial)
        try:
            references = writer.trials({TrialState.REFERENCE})
            for event in evaluator.evaluate(with_checkpoints(trial, references)):
                trial = writer.record(event)
                if isinstance(event, Measured):
                    self._observer.changed(trial)
                if isinstance(event, Checkpointed):
                    self._check_stop()
            assert trial.state.is_final, "the evaluator stopped without ending the trial"
        except (StaleAttemptError, UserInputError, StoppedError):
            raise
        except Exception as error:
            logger.info("trial %d failed", trial.number, exc_info=True)
            reason = f"{type(error).__name__}: {one_line(error)}"
            trial = writer.record(
                Ended(trial=trial.number, attempt=trial.attempt, state=TrialState.FAILED, reason=reason)
            )
        return trial

    def _check_stop(self) -> None:
        if self._stop.check():
            self._stop.raise_if_set()


_: Dispatcher = InlineDispatcher()

"""Run trials one after the other in this process, for small machines, debugging and tests."""

from __future__ import annotations

import logging
from collections.abc import Callable

from sparsesearch.dispatch.lease_keeper import LeaseKeeper
from sparsesearch.errors import StaleAttemptError, UserInputError, one_line
from sparsesearch.study.events import Ended, Measured
from sparsesearch.study.protocols import Controller, Dispatcher, Evaluator, StudyWriter
from sparsesearch.study.trial import Trial, TrialState

logger = logging.getLogger(__name__)

OnTrial = Callable[[Trial], None]


def _ignore(trial: Trial) -> None:
    return


class InlineDispatcher:
    """Runs trials one after the other in this process; see `protocols.Dispatcher`.

    A trial whose evaluation raises becomes FAILED with the reason, and the study continues. Errors that every trial
    would raise (invalid user input, a lost lease) end the run.

    Args:
        on_trial: Called with every trial after it was recorded in a final state.
        on_progress: Called with every trial after it was claimed, and after each of its measurements.
    """

    def __init__(self, *, on_trial: OnTrial = _ignore, on_progress: OnTrial = _ignore) -> None:
        self._on_trial = on_trial
        self._on_progress = on_progress

    def run(self, controller: Controller, writer: StudyWriter, evaluator: Evaluator) -> None:
        """Run trials until the controller has no more; unfinished trials of the store run first."""
        unfinished: list[Trial] = []
        for trial in writer.trials():
            if trial.state.is_final:
                controller.tell(trial)
            else:
                unfinished.append(trial)
        with LeaseKeeper(writer):
            while True:
                if unfinished:
                    waiting = unfinished.pop(0)
                else:
                    asked = controller.ask()
                    if asked is None:
                        return
                    waiting = writer.add_trial(asked)
                finished = self._run_trial(waiting, writer, evaluator)
                controller.tell(finished)
                self._on_trial(finished)

    def _run_trial(self, trial: Trial, writer: StudyWriter, evaluator: Evaluator) -> Trial:
        trial = writer.claim(trial.number)
        self._on_progress(trial)
        try:
            for event in evaluator.evaluate(trial):
                trial = writer.record(event)
                if isinstance(event, Measured):
                    self._on_progress(trial)
            assert trial.state.is_final, "the evaluator stopped without ending the trial"
        except (StaleAttemptError, UserInputError):
            raise
        except Exception as error:
            logger.info("trial %d failed", trial.number, exc_info=True)
            reason = f"{type(error).__name__}: {one_line(error)}"
            trial = writer.record(
                Ended(trial=trial.number, attempt=trial.attempt, state=TrialState.FAILED, reason=reason)
            )
        return trial


_: Dispatcher = InlineDispatcher()

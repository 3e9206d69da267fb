"""The Ray Tune scheduler that records reports, the first component that Ray Tune passes a report to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.experiment import Trial as TuneTrial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from sparsesearch.dispatch.lost_machine import lost_machine
from sparsesearch.dispatch.messages import Failed, Faulted, Happened, Refused, Stopped, read_report
from sparsesearch.dispatch.rungs import Rungs
from sparsesearch.dispatch.trial_queue import TrialQueue
from sparsesearch.dispatch.tune_trainable import ATTEMPT, NUMBER, REPORT
from sparsesearch.errors import InfrastructureError
from sparsesearch.study.events import Checkpointed, Ended, Measured
from sparsesearch.study.trial import TrialState

_DIED = "the worker process died (killed, or out of memory)"
_OUT_OF_MEMORY = "the worker process was killed because its machine ran out of memory"


class RecordingScheduler(FIFOScheduler):
    """Writes each report to the store, and then decides from the stored row.

    Tune calls the scheduler before the searcher and the callbacks (a contract test checks this), so nothing reacts to
    an event that is not recorded. Trials run in the order in which they were proposed.

    Args:
        queue: The trials of the run.
        rungs: Stops worse candidates early, or None.
    """

    def __init__(self, queue: TrialQueue, rungs: Rungs | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._queue = queue
        self._rungs = rungs

    def on_trial_result(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> str:
        """Record a report and return whether the trial continues."""
        with self._queue.guarding():
            return self._react(trial, result[REPORT])

    def on_trial_complete(self, tune_controller: Any, trial: TuneTrial, result: dict[str, Any]) -> None:
        """Record the last report again, which has no effect."""
        with self._queue.guarding():
            report = read_report(result[REPORT])
            if isinstance(report, Happened):
                self._queue.record(report.event)

    def on_trial_error(self, tune_controller: Any, trial: TuneTrial) -> None:
        """Record the failure of a worker that died, unless it reported the failure itself."""
        with self._queue.guarding():
            number, attempt, text = trial.config[NUMBER], trial.config[ATTEMPT], _error_text(trial)
            fault = lost_machine(text)
            if fault is not None:
                self._queue.note_fault(number, attempt=attempt, fault=fault, is_lost=True)
            else:
                reason = _OUT_OF_MEMORY if "running low on memory" in text else _DIED
                self._queue.note_failure(number, attempt=attempt, reason=reason)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as None: Tune pickles its components, and this one has no state to save."""
        return type(None), ()

    def _react(self, trial: TuneTrial, text: str) -> str:
        report = read_report(text)
        if isinstance(report, Refused):
            raise report.to_error()
        if isinstance(report, Failed):
            self._queue.note_failure(trial.config[NUMBER], attempt=trial.config[ATTEMPT], reason=report.reason)
            return str(TrialScheduler.CONTINUE)  # the worker exits by itself
        if isinstance(report, Faulted):
            fault = InfrastructureError(report.reason)
            self._queue.note_fault(trial.config[NUMBER], attempt=trial.config[ATTEMPT], fault=fault)
        if isinstance(report, Faulted | Stopped):
            return str(TrialScheduler.STOP)
        stored = self._queue.record(report.event)
        if isinstance(report.event, Measured) and self._rungs is not None:
            step = report.event.measurement.step
            measurement = next(item for item in stored.measurements if item.step == step)
            reason = self._rungs.decide(stored, measurement)
            if reason is not None:
                end = Ended(trial=stored.number, attempt=stored.attempt, state=TrialState.STOPPED, reason=reason)
                stored = self._queue.record(end)
        stop_here = self._queue.stopping and isinstance(report.event, Checkpointed)
        return str(TrialScheduler.STOP if stored.state.is_final or stop_here else TrialScheduler.CONTINUE)


def _error_text(trial: TuneTrial) -> str:
    """Tune's error file, which says why a worker died."""
    path = trial.error_file
    return Path(path).read_text(encoding="utf-8", errors="replace") if path and Path(path).is_file() else ""

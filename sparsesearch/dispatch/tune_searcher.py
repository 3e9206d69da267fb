"""The controller as a Ray Tune searcher, and the Ray Tune callback of a run. Both rely on stored rows only."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from sparsesearch.dispatch.allocation import Allocation
from sparsesearch.dispatch.messages import Job
from sparsesearch.dispatch.trial_queue import TrialQueue
from sparsesearch.dispatch.tune_trainable import ATTEMPT, CPUS, GPUS, JOB, NUMBER
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.study.trial import Trial


class ControllerSearcher(Searcher):
    """Suggests the trials that the controller proposes, as long as they are trainings.

    For Tune, every attempt is a separate trial. The searcher has no state to save; it is rebuilt from the store.

    Args:
        queue: The trials of the run.
        evaluator: The evaluator of the workers.
        allocation: Resources of the trials.
    """

    def __init__(self, queue: TrialQueue, evaluator: PortableEvaluator, allocation: Allocation) -> None:
        super().__init__()
        self._queue = queue
        self._evaluator = evaluator
        self._allocation = allocation
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """Claim the next trial; return None while others must end first, FINISHED if no training follows."""
        with self._queue.guarding():
            trial = self._queue.take(training=True)
        if trial is None:
            is_over = self._queue.is_idle or self._queue.stopping or self._queue.fault is not None
            return str(Searcher.FINISHED) if is_over else None
        self._numbers[trial_id] = trial.number
        return self._config(trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Release the trial of an ended attempt, which the scheduler has recorded."""
        with self._queue.guarding():
            self._queue.release(self._numbers.pop(trial_id))

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the store has all state."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the store has all state."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as None: Tune pickles its components, and this one has no state to save."""
        return type(None), ()

    def _config(self, trial: Trial) -> dict[str, Any]:
        resources = self._allocation.reference if trial.fidelity.runs_alone else self._allocation.trial
        job = Job(trial=trial, evaluator=self._evaluator, threads=resources.threads)
        return {
            JOB: job.to_json(),
            NUMBER: trial.number,
            ATTEMPT: trial.attempt,
            CPUS: resources.cpus,
            GPUS: resources.gpus,
        }


class RunCallback(Callback):
    """Reports ended trials and looks for requests to stop. Tune calls it after the scheduler and the searcher."""

    def __init__(self, queue: TrialQueue) -> None:
        self._queue = queue

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as None: Tune pickles its components, and this one has no state to save."""
        return type(None), ()

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Look whether the run is to stop; raises if the lease is lost."""
        with self._queue.guarding():
            _ = self._queue.stopping

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Report a trial that ended."""
        with self._queue.guarding():
            self._queue.announce(trial.config[NUMBER])

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """Report a trial that failed, unless it waits for its next attempt."""
        with self._queue.guarding():
            self._queue.announce(trial.config[NUMBER])

"""Our controller as a Ray Tune searcher, and the callback that tells people. Both only read the store's rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial as TuneTrial
from ray.tune.search import Searcher

from sparsesearch.dispatch.cluster import Room
from sparsesearch.dispatch.interrupt import Interrupt
from sparsesearch.dispatch.messages import Job
from sparsesearch.dispatch.trial_queue import TrialQueue
from sparsesearch.dispatch.tune_trainable import ATTEMPT, CPUS, GPUS, JOB, NUMBER
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.study.trial import Fidelity, Trial


class ControllerSearcher(Searcher):
    """Suggests the trials that the controller asks for, as long as they are trainings.

    To Tune, every attempt is a trial of its own. Nothing of it is worth saving: it is made anew from the store.

    Args:
        queue: The trials of the run.
        evaluator: What workers evaluate them with.
        room: What trials may use.
    """

    def __init__(self, queue: TrialQueue, evaluator: PortableEvaluator, room: Room) -> None:
        super().__init__()
        self._queue = queue
        self._evaluator = evaluator
        self._room = room
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """The next trial, claimed; None while others must end first; FINISHED when no training follows."""
        with self._queue.guarding():
            trial = self._queue.take(training=True)
        if trial is None:
            return str(Searcher.FINISHED) if self._queue.is_idle or self._queue.stopping else None
        self._numbers[trial_id] = trial.number
        return self._config(trial)

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """An attempt is over; the scheduler has recorded how."""
        with self._queue.guarding():
            self._queue.release(self._numbers.pop(trial_id))

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the store has it."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing: the store has it."""

    def __reduce__(self) -> tuple[Any, ...]:
        """None: Tune saves what it was given, and there is nothing to save."""
        return type(None), ()

    def _config(self, trial: Trial) -> dict[str, Any]:
        is_reference = trial.fidelity in (Fidelity.DENSE, Fidelity.SUPERNET_TRAINING)
        share = self._room.reference if is_reference else self._room.trial
        job = Job(trial=trial, evaluator=self._evaluator, threads=share.threads)
        return {
            JOB: job.to_json(),
            NUMBER: trial.number,
            ATTEMPT: trial.attempt,
            CPUS: share.cpus,
            GPUS: share.gpus,
        }


class RunCallback(Callback):
    """The last that Tune calls: lets people know of ended trials, and passes their Ctrl-C on."""

    def __init__(self, queue: TrialQueue, interrupt: Interrupt, on_stopping: Callable[[], None]) -> None:
        self._queue = queue
        self._interrupt = interrupt
        self._on_stopping = on_stopping

    def __reduce__(self) -> tuple[Any, ...]:
        """None: Tune saves what it was given, and there is nothing to save."""
        return type(None), ()

    def on_step_begin(self, iteration: int, trials: list[TuneTrial], **info: Any) -> None:
        """Look for Ctrl-C."""
        self.look()

    def look(self) -> None:
        """Let no new trial begin once Ctrl-C was pressed."""
        if self._interrupt.requested and not self._queue.stopping:
            self._queue.stopping = True
            self._on_stopping()

    def on_trial_complete(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """A trial came to its end."""
        with self._queue.guarding():
            self._queue.announce(trial.config[NUMBER])

    def on_trial_error(self, iteration: int, trials: list[TuneTrial], trial: TuneTrial, **info: Any) -> None:
        """A trial failed, or waits for its next attempt."""
        with self._queue.guarding():
            self._queue.announce(trial.config[NUMBER])

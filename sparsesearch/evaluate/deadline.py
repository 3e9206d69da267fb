"""The time budget of a study: which trials may still start, and when a training has to stop."""

from __future__ import annotations

from collections.abc import Callable

from sparsesearch.study.observer import NoObserver
from sparsesearch.study.trial import Fidelity, Trial

_TRAINING_END = {Fidelity.DENSE: 0.50, Fidelity.SUPERNET_TRAINING: 0.72, Fidelity.FINETUNE: 0.90}
_SCREEN_END = 0.80
_CLOSING_S = 6.0


class Deadline(NoObserver):
    """The deadline of a run, which learns from its trials how long they take.

    Without a time budget, every trial may start and no training is stopped.

    Attributes:
        has_cut: Whether a training was stopped early, so that its result does not correspond to its recipe.

    Args:
        started: Start of the run, by `clock`.
        time_budget_s: Time limit of the run in seconds, None for no limit.
        clock: Returns the time in seconds.
        evaluations_at_once: Number of evaluations that start together, and take so many times as long.
    """

    def __init__(
        self,
        *,
        started: float,
        time_budget_s: float | None,
        clock: Callable[[], float],
        evaluations_at_once: int = 1,
    ) -> None:
        self._started = started
        self._budget = time_budget_s
        self._clock = clock
        self._at_once = evaluations_at_once
        self._longest: dict[Fidelity, float] = {}
        self.has_cut = False

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self._clock() - self._started

    def changed(self, trial: Trial) -> None:
        """Note how long a trial took that ended."""
        if not trial.state.is_final:
            return
        seconds = sum(measurement.seconds for measurement in trial.measurements)
        self._longest[trial.fidelity] = max(seconds, self._longest.get(trial.fidelity, 0.0))

    def may_start(self, fidelity: Fidelity) -> bool:
        """Whether one more trial of this fidelity would end in time, judged by the longest one so far."""
        if self._budget is None:
            return True
        end, at_once = (1.0, 1) if fidelity.is_training else (_SCREEN_END, self._at_once)
        return self.elapsed_s + 1.2 * at_once * self._longest.get(fidelity, 0.0) < end * self._budget - _CLOSING_S

    def cuts(self, fidelity: Fidelity) -> bool:
        """Whether the time for this kind of training is over, so that it ends after the step under way."""
        if self._budget is None or self.elapsed_s <= self._budget * _TRAINING_END[fidelity]:
            return False
        self.has_cut = True
        return True

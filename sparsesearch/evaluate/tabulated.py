"""A public fake: trials whose results are looked up instead of trained, for tests and for trying out searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from sparsesearch.schedule import Schedule
from sparsesearch.study.events import Ended, Event, Measured
from sparsesearch.study.protocols import Evaluator
from sparsesearch.study.trial import Fidelity, FinalState, Measurement, Origin, Trial, TrialState

Table = Callable[[Schedule, Fidelity], Sequence[Mapping[str, float]]]
"""(schedule, fidelity) -> the metrics of each report in order: one for a supernet evaluation, else one an epoch."""


class TabulatedEvaluator:
    """See `protocols.Evaluator`. Reports what a function says, at once and without a model.

    Equal arguments of the function must give equal metrics; then a study that was killed goes on as if it had not
    been. What the function raises passes through, like the error of a training. There are no checkpoints: a trial goes
    on behind its last report.

    Args:
        table: The results.
        seconds: What every report claims to have taken.
    """

    def __init__(self, table: Table, *, seconds: float = 0.0) -> None:
        self._table = table
        self._seconds = seconds

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Report what is left of a trial, and its end."""
        first = 1 if trial.fidelity.is_training else 0
        reported = {measurement.step for measurement in trial.measurements}
        for step, metrics in enumerate(self._table(trial.schedule, trial.fidelity), start=first):
            if step not in reported:
                yield self._measured(trial, step, metrics)
        done: FinalState = TrialState.REFERENCE if trial.origin is Origin.REFERENCE else TrialState.COMPLETE
        yield Ended(trial=trial.number, attempt=trial.attempt, state=done)

    def _measured(self, trial: Trial, step: int, metrics: Mapping[str, float]) -> Measured:
        measurement = Measurement(
            step=step,
            attempt=trial.attempt,
            fidelity=trial.fidelity,
            metrics=dict(metrics),
            seconds=self._seconds,
            seed=trial.seed,
        )
        return Measured(trial=trial.number, attempt=trial.attempt, measurement=measurement)


_: type[Evaluator] = TabulatedEvaluator

"""An evaluator that looks results up instead of training, for tests and for experiments with samplers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from sparsesearch.schedule import Schedule
from sparsesearch.study.events import Ended, Event, Measured
from sparsesearch.study.protocols import Evaluator
from sparsesearch.study.trial import Fidelity, FinalState, Measurement, Origin, Trial, TrialState

Table = Callable[[Schedule, Fidelity], Sequence[Mapping[str, float]]]
"""(schedule, fidelity) -> metrics of each report in order: one for a supernet evaluation, else one per epoch."""


class TabulatedEvaluator:
    """See `protocols.Evaluator`. Reports the results of a function, without a model.

    The function must be deterministic, so that a killed study resumes with identical results. Its exceptions are
    propagated, like errors of a training. There are no checkpoints: a trial continues after its last report.

    Args:
        table: Returns the results.
        seconds: Duration recorded for every report.
    """

    def __init__(self, table: Table, *, seconds: float = 0.0) -> None:
        self._table = table
        self._seconds = seconds

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Report the remaining measurements of a trial, and its end."""
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

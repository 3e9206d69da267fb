"""Results of schedules that were evaluated twice, on different images."""

from __future__ import annotations

from collections.abc import Sequence

from sparsesearch.study.trial import Trial

_COUNT = "val_images"


def pooled(first: Sequence[Trial], again: Sequence[Trial]) -> list[Trial]:
    """The trials that were evaluated again, with the metrics on all images of both evaluations.

    Args:
        first: Evaluated trials.
        again: Evaluations of some of their schedules on other images; `parent` is the number of the first one.

    Returns:
        Those of the first trials that were evaluated again, in their order.
    """
    others = {trial.parent: trial.metrics for trial in again}
    return [_with(trial, others[trial.number]) for trial in first if trial.number in others]


def _with(trial: Trial, other: dict[str, float]) -> Trial:
    ours, theirs = trial.metrics[_COUNT], other[_COUNT]
    mean = {
        name: (ours * value + theirs * other[name]) / (ours + theirs)
        for name, value in trial.metrics.items()
        if name in other
    }
    last = trial.measurements[-1].model_copy(update={"metrics": {**mean, _COUNT: ours + theirs}})
    return trial.model_copy(update={"measurements": (*trial.measurements[:-1], last)})

"""Read from the store what a status or a front shows of a study, which is little of a large one."""

from __future__ import annotations

from collections.abc import Iterable

from sparsesearch.analysis.study_front import BEST_FIRST
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.trial import Axis, TrialState


def read_view(records: StudyRecords, study: str, *, axes: Iterable[Axis] = (), also: Iterable[int] = ()) -> StudyView:
    """Read a snapshot of a study whose trials are its references, those under way and those of its fronts.

    Fronts, the best trial and the hypervolume are those of all trials.

    Args:
        records: The store.
        study: Name of the study.
        axes: The axes of fronts to read, in addition to that of the budget.
        also: Numbers of further trials to read.

    Raises:
        StudyNotFoundError: There is no study of that name.
    """
    condition, spec = records.condition(study), records.spec(study)
    numbers = {_DENSE, *also}
    for axis in {spec.budget.axis, *axes}:
        numbers |= front_numbers(records, study, axis)
    shown = {trial.number: trial for trial in records.trials(study, states=_ALWAYS_SHOWN)}
    shown |= {trial.number: trial for trial in records.trials(study, numbers=numbers - shown.keys())}
    trials = tuple(trial for _, trial in sorted(shown.items()))
    times = records.times(study, numbers=shown.keys())
    view = StudyView(spec=spec, trials=trials, times=times, condition=condition, uid=records.uid(study))
    return view.with_hits(records)


def front_numbers(records: StudyRecords, study: str, axis: Axis) -> set[int]:
    """Numbers of the trials on the front of a study, and of a proposal, without which a fidelity has no front."""
    for fidelity in BEST_FIRST:
        found = records.front(study, fidelity, axis)
        if found.proposal is not None:
            return {found.proposal, *found.front}
    return set()


_DENSE = 0
"""The dense model is the first trial of every study."""

_ALWAYS_SHOWN = frozenset({TrialState.REFERENCE, TrialState.RUNNING})

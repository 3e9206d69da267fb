"""Views of studies made trial by trial, so that what follows from them can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

from sample_study import DEIT_SMALL, sample_spec

from sparsesearch.analysis.view import StudyView
from sparsesearch.schedule import Schedule
from sparsesearch.study.numbers import Numbers
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.trial import (
    Cost,
    Fidelity,
    Measurement,
    Origin,
    Proposal,
    StudyTimes,
    Trial,
    TrialState,
    TrialTimes,
)

DENSE_MACS = 1000
DENSE_TOP1 = 0.8


def trial(
    number: int,
    macs: int,
    top1: float | None,
    *,
    fidelity: Fidelity = Fidelity.SUPERNET,
    origin: Origin = Origin.SEARCH,
    state: TrialState = TrialState.COMPLETE,
    label: str | None = None,
    budget_macs: int | None = None,
    key: str | None = None,
    images: float | None = None,
    params: dict[str, int | float | str] | None = None,
    latency_ms: float | None = None,
    predicted_ms: float | None = None,
    seconds: float = 1.0,
) -> Trial:
    """A trial with one measurement; costs are made up, so that areas come out in round numbers."""
    metrics = {} if top1 is None else {"val_top1": top1}
    if images is not None:
        metrics["val_images"] = images
    step = 0 if fidelity is Fidelity.SUPERNET else 1
    measured = Measurement(step=step, attempt=1, fidelity=fidelity, metrics=metrics, seconds=seconds, seed=0)
    names = {Origin.SEARCH: "search", Origin.BASELINE: "rho at 3,6,9", Origin.REFERENCE: "dense"}
    return Trial(
        number=number,
        fidelity=fidelity,
        origin=origin,
        label=label or names[origin],
        schedule=Schedule() if origin is Origin.REFERENCE else Schedule.at([3], [0.5]),
        key=key or f"{number}",
        cost=Cost(macs=macs, params=1, latency_ms=latency_ms, predicted_ms=predicted_ms),
        seed=0,
        budget_macs=budget_macs,
        proposal=None if params is None else Proposal(index=number, seed=0, seen=Numbers(), params=params),
        study="sample",
        state=state,
        attempt=1,
        measurements=() if top1 is None else (measured,),
    )


def dense() -> Trial:
    """The reference: 1,000 multiply-adds, 80 %."""
    return trial(
        0, DENSE_MACS, DENSE_TOP1, fidelity=Fidelity.DENSE, origin=Origin.REFERENCE, state=TrialState.REFERENCE
    )


def handcrafted(number: int, macs: int, top1: float, *, budget_macs: int, **changes: object) -> Trial:
    """A hand baseline."""
    return trial(number, macs, top1, origin=Origin.BASELINE, budget_macs=budget_macs, **changes)  # type: ignore[arg-type]


def view_of(
    trials: Sequence[Trial], *, spec: StudySpec | None = None, budget: Budget | None = None, clocked: bool = True
) -> StudyView:
    """A view in which trial n ended 10 n seconds after the study began."""
    spec = spec or sample_spec()
    if budget is not None:
        spec = spec.model_copy(update={"budget": budget})
    times = {t.number: TrialTimes(started_at=10.0 * t.number + 95.0, ended_at=10.0 * t.number + 100.0) for t in trials}
    return StudyView(
        spec=spec, trials=tuple(trials), times=StudyTimes(created_at=100.0, trials=times if clocked else {})
    )


__all__ = ["DEIT_SMALL", "DENSE_MACS", "DENSE_TOP1", "dense", "handcrafted", "trial", "view_of"]

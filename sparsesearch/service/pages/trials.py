"""The trials of a study: a table in pages, and one trial."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Path, Query, Request, Response

from sparsesearch.analysis.describe_front import describe_trials
from sparsesearch.analysis.read_view import read_view
from sparsesearch.analysis.words import FIDELITY_WORDS
from sparsesearch.service.access import Reader
from sparsesearch.service.pages.depth import ScheduleCard
from sparsesearch.service.pages.rendering import page
from sparsesearch.service.pages.route import PageRoute
from sparsesearch.service.pages.studies import Offset
from sparsesearch.service.parts import StudyName, WorkspaceOf
from sparsesearch.study.trial import Fidelity, Trial, TrialState

router = APIRouter(route_class=PageRoute)
_AT_ONCE = 50

Number = Annotated[int, Path(ge=0, le=2**31 - 1)]


@router.get("/studies/{name}/trials")
def show_all(
    request: Request,
    name: StudyName,
    _: Reader,
    workspace: WorkspaceOf,
    state: Annotated[str, Query(max_length=20)] = "",
    offset: Offset = 0,
) -> Response:
    """List the trials of a study in order of their numbers."""
    store = workspace.store
    states = [one for one in TrialState if one.value == state]
    view = read_view(store, name)
    found = store.trials(name, states=states or None, offset=offset, limit=_AT_ONCE)
    digest = store.digest(name)
    total = digest.number(where=lambda one: not states or one in states)
    following = offset + len(found)

    def page_at(start: int | None) -> str | None:
        return None if start is None else "?" + urlencode({"offset": start} | ({"state": state} if states else {}))

    return page(
        request,
        "trials.html",
        name=name,
        spec=view.spec,
        points=describe_trials(view, found, axis=view.spec.budget.axis),
        view=view,
        has_ms=any(trial.cost.ms is not None for trial in found),
        states=[(one.value, sum(count.count for count in digest.counts if count.state is one)) for one in TrialState],
        state=state if states else "",
        num_trials=digest.num_trials,
        total=total,
        offset=offset,
        previous=page_at(None if offset == 0 else max(0, offset - _AT_ONCE)),
        following=page_at(following if found and following < total else None),
    )


@router.get("/studies/{name}/trials/{number}")
def show(
    request: Request,
    name: StudyName,
    number: Number,
    _: Reader,
    workspace: WorkspaceOf,
    part: Annotated[str | None, Query(max_length=20)] = None,
) -> Response:
    """Show one trial, or only its schedule for a script."""
    store = workspace.store
    view = read_view(store, name, also=[number])
    trial = next((one for one in view.trials if one.number == number), None)
    if trial is None:
        raise HTTPException(404, f"study {name!r} has no trial {number}")
    return page(
        request,
        "trial.html" if part is None else "_schedule.html",
        name=name,
        spec=view.spec,
        trial=trial,
        times=view.times_of(trial),
        card=ScheduleCard.of(view, trial),
        how=FIDELITY_WORDS[trial.fidelity],
        metrics=_metric_names(trial),
        is_schedule=trial.fidelity not in (Fidelity.SUPERNET_TRAINING, Fidelity.COUNTS),
    )


def _metric_names(trial: Trial) -> list[str]:
    """The names of all metrics of a trial, in the order in which they were measured first."""
    return list(dict.fromkeys(name for measured in trial.measurements for name in measured.metrics))

"""Tell webhooks of the best schedules of submitted studies; other news are queued where a study changes its state."""

from __future__ import annotations

import json

from sparsesearch.analysis.read_view import read_view
from sparsesearch.analysis.view import StudyView
from sparsesearch.errors import StudyNotFoundError
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.notification import Delivery, NotifiedEvent
from sparsesearch.study.trial import Trial


def tell_best(store: SqlStore, study: str | None = None) -> None:
    """Queue the news of schedules that are the best since these were last told; each once, however many tell them.

    Args:
        store: The store.
        study: The study to look at; None for all that run.
    """
    if not store.webhooks.all():  # nothing is kept for those that are added later
        return
    for name, told in store.webhooks.told_best(study).items():
        best = _best(store, name)
        if best is not None and best[0] != told:
            store.webhooks.tell_best(name, *best, was=told)


def with_best(store: SqlStore, delivery: Delivery) -> Delivery:
    """Add the best schedule so far to the news that a study has stopped."""
    message = json.loads(delivery.body)
    if delivery.event in (NotifiedEvent.STARTED, NotifiedEvent.BEST) or "best" in message["data"]:
        return delivery
    best = _best(store, delivery.study)
    if best is None:
        return delivery
    data = {**message["data"], "best": best[1]}
    return delivery.model_copy(update={"body": json.dumps({**message, "data": data}, sort_keys=True)})


def _best(store: SqlStore, study: str) -> tuple[int, dict[str, object]] | None:
    """The number of the best trial so far, and what is told of it."""
    try:
        view = read_view(store, study)
    except StudyNotFoundError:  # deleted in the meantime
        return None
    return None if view.best is None else (view.best.number, _of(view, view.best))


def _of(view: StudyView, trial: Trial) -> dict[str, object]:
    metric = view.spec.metric
    return {
        "trial": trial.number,
        "fidelity": trial.fidelity.value,
        "macs": trial.cost.macs,
        metric.name: metric.of(trial.metrics),
        "tokens": view.schedule_text(trial),
    }

"""Find what there is to tell of submitted studies, and queue it for webhooks."""

from __future__ import annotations

from sparsesearch.analysis.read_view import read_view
from sparsesearch.analysis.view import StudyView
from sparsesearch.errors import StudyNotFoundError
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.notification import NotifiedEvent
from sparsesearch.study.trial import Trial


def tell_news(store: SqlStore) -> None:
    """Queue what has changed since it was last told; each change once, however many controllers look.

    Without webhooks it is not kept for those that are added later.
    """
    has_listeners = bool(store.webhooks.all())
    for name, told_state, told_best in store.webhooks.to_look_at():
        try:
            condition = store.condition(name)
            event = NotifiedEvent.of(condition.state)
            view = read_view(store, name) if has_listeners else None
        except StudyNotFoundError:  # deleted in the meantime
            continue
        best = None if view is None else view.best
        if view is not None and best is not None and best.number != told_best:
            told, was = {"told_best": best.number}, {"told_best": told_best}
            store.webhooks.tell(name, NotifiedEvent.BEST, _of(view, best), told=told, was=was)
        if event is not None and event.value != told_state:
            data: dict[str, object] = {"state": condition.state.value, "reason": condition.reason}
            if view is not None and best is not None:
                data["best"] = _of(view, best)
            told_now, told_then = {"told_state": event.value}, {"told_state": told_state}
            store.webhooks.tell(name, event, data, told=told_now, was=told_then)


def _of(view: StudyView, trial: Trial) -> dict[str, object]:
    metric = view.spec.metric
    return {
        "trial": trial.number,
        "fidelity": trial.fidelity.value,
        "macs": trial.cost.macs,
        metric.name: metric.of(trial.metrics),
        "tokens": view.schedule_text(trial),
    }

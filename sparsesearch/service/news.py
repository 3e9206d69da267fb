"""Find what there is to tell of submitted studies, and queue it for webhooks."""

from __future__ import annotations

from sparsesearch.analysis.read_view import read_view
from sparsesearch.analysis.view import StudyView
from sparsesearch.errors import StudyNotFoundError
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.notification import NotifiedEvent
from sparsesearch.study.trial import Trial


def tell_news(store: SqlStore) -> None:
    """Queue what has changed since it was last told; each change once, however many controllers look."""
    if not store.webhooks.all():
        return
    for name, told_state, told_best in store.webhooks.to_look_at():
        try:
            condition = store.condition(name)
            event = NotifiedEvent.of(condition.state)
            view = read_view(store, name)
        except StudyNotFoundError:  # deleted in the meantime
            continue
        best = view.best
        if best is not None and best.number != told_best:
            store.webhooks.tell(name, NotifiedEvent.BEST, _of(view, best), told={"told_best": best.number})
        if event is not None and event.value != told_state:
            data: dict[str, object] = {"state": condition.state.value, "reason": condition.reason}
            if best is not None:
                data["best"] = _of(view, best)
            store.webhooks.tell(name, event, data, told={"told_state": event.value})


def _of(view: StudyView, trial: Trial) -> dict[str, object]:
    metric = view.spec.metric
    return {
        "trial": trial.number,
        "fidelity": trial.fidelity.value,
        "macs": trial.cost.macs,
        metric.name: metric.of(trial.metrics),
        "tokens": view.schedule_text(trial),
    }

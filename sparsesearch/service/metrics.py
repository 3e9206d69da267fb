"""Metrics for Prometheus, from the rows of the database when they are asked for."""

from __future__ import annotations

import time
from collections.abc import Iterable

from sparsesearch.store.sql import SqlStore
from sparsesearch.study.state import StudyState
from sparsesearch.study.trial import TrialState


def metrics_text(store: SqlStore) -> str:
    """All metrics in Prometheus' text format."""
    numbers = store.service_numbers()
    now = time.time()
    lines: list[str] = []

    def add(name: str, text: str, samples: Iterable[tuple[str, float]]) -> None:
        lines.append(f"# HELP sparsesearch_{name} {text}")
        lines.append(f"# TYPE sparsesearch_{name} gauge")
        lines.extend(f"sparsesearch_{name}{labels} {value:.10g}" for labels, value in samples)

    add(
        "studies",
        "Studies by stored state.",
        ((f'{{state="{state}"}}', numbers.studies.get(state.value, 0)) for state in StudyState),
    )
    add(
        "trials",
        "Trials of studies that are not over, by state.",
        ((f'{{state="{state}"}}', numbers.trials.get(state.value, 0)) for state in TrialState),
    )
    oldest = 0.0 if numbers.oldest_queued_at is None else max(0.0, now - numbers.oldest_queued_at)
    add("oldest_queued_seconds", "Age of the oldest study in the queue.", [("", oldest)])
    add("lease_age_seconds", "Largest time since a running study renewed its lease.", [("", numbers.lease_age_s)])
    add("mlflow_lag_seconds", "Largest time for which a change is not in MLflow yet.", [("", numbers.mlflow_lag_s)])
    alive = store.controllers.alive()
    add("controllers", "Controllers that are alive.", [("", len(alive))])
    add("controller_slots", "Studies that controllers can run at once.", [("", sum(one.slots for one in alive))])
    add("controller_running", "Studies that controllers run.", [("", sum(len(one.running) for one in alive))])
    add("webhook_deliveries_waiting", "Deliveries of webhooks that are not over.", [("", numbers.deliveries)])
    return "\n".join(lines) + "\n"

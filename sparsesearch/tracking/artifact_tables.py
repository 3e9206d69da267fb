"""Tables of trials in MLflow's table format."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from sparsesearch.analysis.describe_front import describe_trials
from sparsesearch.analysis.front_description import FrontDescription, FrontPoint
from sparsesearch.analysis.view import StudyView

COLUMNS = (
    "trial",
    "GMACs",
    "of dense, %",
    "validation accuracy, %",
    "standard error, points",
    "tokens left before block",
    "origin",
    "within the budget",
    "on the front",
    "fidelity",
    "state",
    "parameters, M",
    "latency, ms",
    "predicted, ms",
    "seed",
    "reason",
)


def front_table(front: FrontDescription) -> str:
    """Format the dense model and all candidates of the front's fidelity, cheapest first."""
    return _table([*([] if front.dense is None else [front.dense]), *front.points])


def evaluations_table(view: StudyView) -> str:
    """Format all evaluations without training, ordered by number."""
    return _table(describe_trials(view, view.evaluated, on_front=view.front.points))


def _table(points: Sequence[FrontPoint]) -> str:
    rows = []
    for point in points:
        trial = point.trial
        rows.append(
            [
                trial.number,
                round(trial.cost.macs / 1e9, 9),
                None if point.of_dense is None else round(100 * point.of_dense, 3),
                round(point.y, 4) if math.isfinite(point.y) else None,
                None if point.standard_error is None else round(point.standard_error, 4),
                point.schedule,
                point.origin,
                "yes" if point.within_budget else "",
                "yes" if point.on_front else "",
                trial.fidelity.value,
                trial.state.value,
                round(trial.cost.params / 1e6, 4),
                trial.cost.latency_ms,
                trial.cost.predicted_ms,
                trial.seed,
                trial.reason or "",
            ]
        )
    return json.dumps({"columns": list(COLUMNS), "data": rows}, allow_nan=False)

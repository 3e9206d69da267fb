"""Tables of trials in MLflow's table format."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import found_by
from sparsesearch.study.trial import Trial

COLUMNS = (
    "trial",
    "GMACs",
    "of dense, %",
    "validation accuracy, %",
    "tokens left before block",
    "origin",
    "on the front",
    "fidelity",
    "state",
    "parameters, M",
    "latency, ms",
    "predicted, ms",
    "seed",
    "reason",
)


def front_table(view: StudyView) -> str:
    """Format the dense model and all candidates of the front's fidelity, cheapest first."""
    dense = view.front.reference
    candidates = sorted(view.front.candidates, key=lambda trial: (trial.cost.macs, trial.number))
    return _table(view, [*([dense] if dense is not None else []), *candidates])


def evaluations_table(view: StudyView) -> str:
    """Format all evaluations without training, ordered by number."""
    return _table(view, view.evaluated)


def _table(view: StudyView, trials: Sequence[Trial]) -> str:
    front = {trial.number for trial in view.front.points}
    dense = view.front.reference
    rows = []
    for trial in trials:
        top1 = trial.metrics.get("val_top1", math.nan)
        rows.append(
            [
                trial.number,
                round(trial.cost.macs / 1e9, 9),
                None if dense is None else round(100 * trial.cost.macs / dense.cost.macs, 3),
                round(100 * top1, 4) if math.isfinite(top1) else None,
                view.schedule_text(trial),
                found_by(trial),
                "yes" if trial.number in front else "",
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

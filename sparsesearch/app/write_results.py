"""Write the result files of a study."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.analysis.study_front import StudyFront
from sparsesearch.artifacts.from_study import make_recipe
from sparsesearch.artifacts.recipe import DEMO_NOTE, NOT_MEANINGFUL, write_recipe
from sparsesearch.study.spec import StudySpec
from sparsesearch.visualize.front_plot import save_front

RECIPE, PICTURE = "best.yaml", "front.png"


def write_front_files(spec: StudySpec, front: StudyFront, folder: Path) -> None:
    """Write `front.png`, and `best.yaml` if a schedule is within the budget; write nothing without a front."""
    if front.reference is None or not front.points:
        return
    limit = spec.budget.limits(front.reference.cost.macs)[1]
    best = front.best(limit=limit)
    if best is not None:
        write_recipe(make_recipe(spec, front, best), folder / RECIPE)
    notes = [*([DEMO_NOTE] if spec.data.is_demo else []), *([] if spec.meaningful else [NOT_MEANINGFUL])]
    save_front(
        front,
        folder / PICTURE,
        title=f"{spec.name}: {spec.backbone}",
        limit=limit,
        note="; ".join(notes) or None,
    )

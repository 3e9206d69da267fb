"""A recipe from a trial of a study."""

from __future__ import annotations

from importlib.metadata import version

from sparsesearch.errors import BudgetError, StudyFailedError
from sparsesearch.export.recipe import DEMO_NOTE, NOT_MEANINGFUL, Measured, Provenance, Recipe
from sparsesearch.search.results import StudyFront
from sparsesearch.spec import StudySpec
from sparsesearch.trial import Trial


def best_trial(spec: StudySpec, front: StudyFront, *, budget_macs: int | None = None) -> Trial:
    """The most accurate trial within a budget (the study's own if none is given).

    Raises:
        StudyFailedError: No candidate is complete yet.
        BudgetError: None of the front is that cheap.
    """
    resolved = spec.resolved
    if resolved is None or front.reference is None or not front.points:
        raise StudyFailedError(
            f"study {spec.name!r} has no finished candidate yet; go on with: sparsesearch resume {spec.name}"
        )
    limit = spec.budget.macs(front.reference.cost.macs)[1] if budget_macs is None else budget_macs
    best = front.best(budget_macs=limit)
    if best is None:
        cheapest = front.points[0].cost.macs
        raise BudgetError(
            f"the cheapest schedule of study {spec.name!r} costs {cheapest / 1e9:.6g} GFLOPs (multiply-adds), "
            f"more than {limit / 1e9:.6g}; search again with a lower budget"
        )
    return best


def make_recipe(spec: StudySpec, front: StudyFront, trial: Trial) -> Recipe:
    """All that `retrain` needs of a trial."""
    resolved, dense = spec.resolved, front.reference
    assert resolved is not None, "only prepared studies are stored"
    assert dense is not None, "a study with candidates has its dense reference"
    return Recipe(
        note=DEMO_NOTE if spec.data.is_demo else None,
        backbone=spec.backbone,
        schedule=trial.schedule,
        data=spec.data,
        num_classes=resolved.num_classes,
        image_size=resolved.geometry.image_size[0],
        in_chans=resolved.in_chans,
        weights=spec.weights,
        dense=spec.fidelity.dense,
        training=spec.fidelity.retrain,
        precision=spec.precision,
        seed=spec.seed,
        measured=Measured(
            fidelity=trial.fidelity.value,
            macs=trial.cost.macs,
            dense_macs=dense.cost.macs,
            params=trial.cost.params,
            metrics=trial.metrics,
            dense_metrics=dense.metrics,
            accuracy="ok" if spec.meaningful else NOT_MEANINGFUL,
        ),
        provenance=Provenance(
            study=spec.name,
            trial=trial.number,
            label=trial.label,
            schedule_key=trial.key,
            data_fingerprint=resolved.data_fingerprint,
            sparsesearch=version("sparsesearch"),
            torch=version("torch"),
            timm=version("timm"),
        ),
    )

"""Create a recipe from a trial of a study."""

from __future__ import annotations

from importlib.metadata import version

from sparsesearch.analysis.study_front import StudyFront, cost_along
from sparsesearch.analysis.view import StudyView
from sparsesearch.artifacts.recipe import DEMO_NOTE, NOT_MEANINGFUL, Measured, Provenance, Recipe, RecipeLatency
from sparsesearch.errors import BudgetError, StudyFailedError
from sparsesearch.schedule.image_size import as_image_size
from sparsesearch.study.spec import PickName, StudySpec
from sparsesearch.study.trial import Trial, TrialState
from sparsesearch.text import counted


def best_trial(
    view: StudyView, *, front: StudyFront | None = None, limit: float | None = None, rule: PickName | None = None
) -> Trial:
    """Return the best trial within a budget.

    Args:
        view: The study.
        front: Its front along another axis; by default along that of its budget.
        limit: The budget, in units of the front's cost axis; by default that of the study.
        rule: How the trial is picked; by default as the study's document says.

    Raises:
        StudyFailedError: No candidate is complete yet.
        BudgetError: No trial of the front is within the budget.
    """
    spec, front = view.spec, front or view.front
    resolved = spec.resolved
    if resolved is None or front.reference is None or not front.points:
        failed = sum(trial.state is TrialState.FAILED for trial in view.trials)
        if view.condition.state.is_over and failed:
            raise StudyFailedError(
                f"study {spec.name!r} has no candidate, since {counted(failed, 'trial')} failed; see why with: "
                f"sparsesearch trials {spec.name} --state failed; run them again with: sparsesearch retry {spec.name}"
            )
        raise StudyFailedError(
            f"study {spec.name!r} has no finished candidate yet; resume it with: sparsesearch resume {spec.name}"
        )
    limit = spec.budget.limits(front.reference.cost.macs)[1] if limit is None else limit
    best = view.picked(front, limit=limit, rule=rule)
    if best is None:
        cheapest = cost_along(front.points[0], front.axis)
        costs = f"costs {cheapest / 1e9:.6g} GFLOPs (multiply-adds), more than {limit / 1e9:.6g}"
        if front.axis == "ms":
            how = "predicted" if front.points[0].confirmed is None else "measured"
            costs = f"takes {cheapest:.4g} ms ({how}), more than {limit:.4g}"
        raise BudgetError(f"the cheapest schedule of study {spec.name!r} {costs}; search again with a lower budget")
    return best


def make_recipe(spec: StudySpec, front: StudyFront, trial: Trial) -> Recipe:
    """Create the recipe of a trial, with everything that `retrain` needs."""
    resolved, dense = spec.resolved, front.reference
    assert resolved is not None, "only prepared studies are stored"
    assert dense is not None, "a study with candidates has its dense reference"
    return Recipe(
        note=DEMO_NOTE if spec.data.is_demo else None,
        backbone=spec.backbone,
        schedule=trial.schedule,
        data=spec.data,
        num_classes=resolved.num_classes,
        image_size=as_image_size(resolved.geometry.image_size),
        in_chans=resolved.in_chans,
        weights=spec.weights,
        dense=spec.fidelity.dense,
        training=spec.fidelity.retrain,
        precision=spec.precision,
        compile=spec.compile,
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
        latency=_latency(spec, trial),
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
    ).with_training(spec.fidelity.retrain)


def _latency(spec: StudySpec, trial: Trial) -> RecipeLatency | None:
    """Return the latency of a trial, None if the study has no target."""
    fit = None if spec.resolved is None else spec.resolved.latency
    if fit is None:
        return None
    return RecipeLatency(
        target=fit.conditions,
        dense_ms=fit.dense_ms,
        predicted_ms=trial.cost.predicted_ms,
        budget_ms=spec.budget.high if spec.budget.axis == "ms" else None,
        confirmed=trial.confirmed,
    )

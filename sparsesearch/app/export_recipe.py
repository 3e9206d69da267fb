"""Export the best schedule of a study as a recipe."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sparsesearch.analysis.read_view import read_view
from sparsesearch.analysis.study_front import study_front
from sparsesearch.artifacts.from_study import best_trial, make_recipe
from sparsesearch.artifacts.output_files import check_new_file
from sparsesearch.artifacts.recipe import Recipe, write_recipe
from sparsesearch.errors import SpecError
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.spec import Budget, PickName
from sparsesearch.study.trial import Trial


@dataclass(frozen=True)
class ExportedRecipe:
    """A recipe on disk.

    Attributes:
        path: Its file.
        recipe: The recipe.
        trial: The trial that it was made from.
    """

    path: Path
    recipe: Recipe
    trial: Trial


def export_recipe(
    records: StudyRecords,
    study: str,
    path: Path,
    *,
    budget: Budget | None = None,
    rule: PickName | None = None,
    force: bool = False,
) -> ExportedRecipe:
    """Write the best schedule of a study within a budget as a recipe for `retrain`.

    Args:
        records: The store.
        study: Name of the study.
        path: Output file.
        budget: A budget other than that of the study; a single one, not a range.
        rule: How the schedule is picked; None for the rule of the study.
        force: Whether the file may exist; it is overwritten then.

    Raises:
        StudyNotFoundError: There is no study of that name.
        StudyFailedError: No candidate is complete yet.
        BudgetError: No schedule is within the budget.
        SpecError: The budget is a range, or the file exists or cannot be written.
    """
    check_new_file(path, force=force)
    if budget is not None and budget.low is not None:
        raise SpecError(f"export takes a single budget, not the range {budget}; give its upper end")
    axis = (budget or records.spec(study).budget).axis
    view = read_view(records, study, axes=(axis,))
    spec = view.spec
    front = study_front(view.trials, axis=axis, metric=spec.metric)
    limit = None
    if budget is not None and front.reference is not None:
        limit = budget.limits(front.reference.cost.macs)[1]
    trial = best_trial(view, front=front, limit=limit, rule=rule)
    recipe = make_recipe(spec, front, trial)
    write_recipe(recipe, path)
    return ExportedRecipe(path, recipe, trial)

"""Measuring the latency of a recipe on its target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from sparsesearch.app.confirm_front import measure_here
from sparsesearch.app.target_lookup import target_for
from sparsesearch.artifacts.recipe import Recipe, RecipeLatency
from sparsesearch.errors import ProfileError, StudyBusyError, StudyNotFoundError
from sparsesearch.latency.device import torch_threads
from sparsesearch.study.events import Confirmed
from sparsesearch.study.latency_record import Conditions, ConfirmedLatency
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import StudyStore
from sparsesearch.study.trial import Trial

_DEFAULT = Conditions(
    device="",
    device_name="",
    precision="float32",
    batch_size=1,
    compiled=False,
    memory_format="contiguous",
    num_threads=0,
    torch="",
    timm="",
)


@dataclass(frozen=True)
class MeasuredRecipe:
    """A recipe with its latency.

    Attributes:
        recipe: The recipe, with the latency and its conditions.
        found: What was measured.
    """

    recipe: Recipe
    found: ConfirmedLatency

    @property
    def latency(self) -> RecipeLatency:
        """The latency as the recipe has it."""
        assert self.recipe.latency is not None, "it was measured"
        return self.recipe.latency

    @property
    def verdict(self) -> Literal["meets", "misses"] | None:
        """Whether it meets the budget of the recipe; None if that has none in milliseconds."""
        budget = self.latency.budget_ms
        return None if budget is None else "meets" if self.found.ms <= budget else "misses"


def measure_recipe(
    recipe: Recipe,
    *,
    source: Path,
    conditions: Mapping[str, object],
    device: str,
    seconds: float,
    progress: Progress,
) -> MeasuredRecipe:
    """Measure a recipe on this machine, interleaved with the dense model.

    Args:
        recipe: The recipe.
        source: Its file, for messages.
        conditions: Fields of `Conditions` that override those of the recipe's target; None where they are not given.
        device: `auto`, `cpu` or `cuda[:N]`.
        seconds: Approximate time limit.
        progress: Reports progress.

    Raises:
        ProfileError: This machine is not the target of the recipe.
    """
    known = recipe.latency
    base = known.target if known else _DEFAULT
    wanted = base.model_copy(update={name: value for name, value in conditions.items() if value is not None})
    target = target_for(wanted, recipe.backbone, device=device, image_size=recipe.image_size)
    target = replace(target, num_classes=recipe.num_classes, in_chans=recipe.in_chans)
    with torch_threads(wanted.num_threads or None):
        here = target.conditions()
    differences = known.target.differences(here) if known else []
    if known and differences:
        raise ProfileError(
            f"{source} was searched for another target ({', '.join(differences)}); measure it on "
            f"{known.target.describe()}, or search for this machine with: sparsesearch run --budget-ms"
        )
    found = measure_here(
        target,
        {"recipe": recipe.schedule},
        conditions=here,
        reference_ms=known.dense_ms if known else None,
        progress=progress,
        label="measuring",
        seconds=seconds,
    )["recipe"]
    latency = (known or RecipeLatency(target=found.conditions)).model_copy(update={"confirmed": found})
    return MeasuredRecipe(recipe.model_copy(update={"latency": latency}), found)


def record_latency(measured: MeasuredRecipe, store: StudyStore, *, progress: Progress) -> str | None:
    """Record the latency with its trial and return the name of the study; None if it is not in the database or runs."""
    trial = _trial_of(measured.recipe, store)
    if trial is None:
        return None
    try:
        writer = store.open_study(trial.study)
    except StudyBusyError:
        progress.line(f"study {trial.study!r} is running, so the latency is written to the recipe only")
        return None
    try:
        writer.record(Confirmed(trial=trial.number, attempt=trial.attempt, latency=measured.found))
    finally:
        writer.close()
    return trial.study


def _trial_of(recipe: Recipe, store: StudyStore) -> Trial | None:
    """Return the trial of a recipe, or None if it is not in the database or its study has no target."""
    try:
        spec = store.spec(recipe.provenance.study)
        trials = store.trials(recipe.provenance.study)
    except StudyNotFoundError:
        return None
    if spec.resolved is None or spec.resolved.latency is None:
        return None
    same = [one for one in trials if one.number == recipe.provenance.trial and one.state.is_final]
    return next((one for one in same if one.key == recipe.provenance.schedule_key), None)

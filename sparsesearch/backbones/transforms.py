"""The verbs that make a model of any family sparse, in place. `restore_` after any of them gives the model back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from sparsesearch.backbones import convnext, swin, vit
from sparsesearch.backbones.family import Family, unpatch_
from sparsesearch.backbones.sparsity import Location, Sparsity, describe_class, sparsity_of
from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule import ResolvedStep, Schedule, check_step, stage_of
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import DynamicVitScorer, SpotScorer, is_learned
from sparsesearch.sparsify.scorers import build_predictor
from sparsesearch.sparsify.state import Place, PlannedStep

_FAMILIES: tuple[Family, ...] = (vit, convnext, swin)

SUPPORTED = "supported are timm's VisionTransformer and Eva models, ConvNeXt, Swin, LV-ViT, and the pico backbones"


def family_of(model: nn.Module) -> Family:
    """The family of a model.

    Raises:
        BackboneError: It is of none.
    """
    for family in _FAMILIES:
        if family.matches(model):
            return family
    raise BackboneError(f"{describe_class(model)} cannot be sparsified; {SUPPORTED}")


def attach_(model: nn.Module, locations: Iterable[Location | tuple[Any, ...]], *, seed: int = 0) -> None:
    """Make a model ready for schedules at candidate places, in place; its outputs do not change.

    May be called again to add places.

    Args:
        model: Any supported model.
        locations: `(stage, block, phase, scorer, reducer)` each; all from phase on may be left out.
        seed: Seed of new weights and, the first time, of the model's noise.

    Raises:
        BackboneError: The model is unsupported.
        ScheduleError: A place does not exist, or what is asked of it cannot be done there.
    """
    family = family_of(model)
    held = _held(model)
    shape = family.token_geometry(model) if held is None else held.geometry
    wanted = [_spelled_out(Location(*location), shape) for location in locations]
    for location in wanted:
        family.check_step(model, location.as_step)
    sparsity = held or _make_sparse_(family, model, shape, seed)
    like = next(model.parameters())
    for location in wanted:
        scorer = location.scorer
        if isinstance(scorer, DynamicVitScorer | SpotScorer) and location.name not in sparsity.predictors:
            stage = shape.stages[location.stage]
            predictor = build_predictor(
                scorer,
                dim=stage.dim,
                name=location.name,
                seed=seed,
                num_statistics=location.as_step.num_statistics(stage),
                has_class_token=stage.has_class_token,
                eps=family.predictor_eps,
            )
            sparsity.predictors[location.name] = predictor.to(like).train(model.training)
        family.equip_(model, sparsity, location.as_step, seed=seed)
        sparsity.locations.add(location)
    set_schedule_(model, sparsity.schedule)


def set_schedule_(model: nn.Module, schedule: Schedule) -> None:
    """Switch a sparse model to another schedule; nothing is patched or built.

    Args:
        model: A model that `attach_` or `sparsify_` has seen.
        schedule: Any schedule whose predictors and fast paths are attached.

    Raises:
        BackboneError: The model is not sparse.
        ScheduleError: The schedule does not fit the model, or needs what is not attached.
    """
    sparsity = sparsity_of(model)
    family = family_of(model)
    resolved = schedule.resolve(sparsity.geometry)
    _check_steps(family, model, resolved)
    plan: dict[Place, tuple[PlannedStep, ...]] = {}
    for step in resolved:
        location = Location.of(step)
        place = (step.stage, step.block, step.phase)
        planned = PlannedStep.of(step, name=location.name, scorer=sparsity.scorer(location))
        plan[place] = (*plan.get(place, ()), planned)
    state = sparsity.state
    before = (state.plan, state.probes)
    state.plan, state.probes = plan, _probes(sparsity, resolved)
    try:
        family.plan_(model, sparsity, resolved)
    except ScheduleError:
        state.plan, state.probes = before
        raise
    sparsity.schedule = schedule


def sparsify_(model: nn.Module, schedule: Schedule, *, seed: int = 0) -> None:
    """Make a model run a schedule, in place; on a sparse model, switch to it and add what it lacks.

    Args:
        model: Any supported model.
        schedule: What to run.
        seed: As in `attach_`.

    Raises:
        BackboneError: The model is unsupported.
        ScheduleError: The schedule does not fit the model.
    """
    family = family_of(model)
    held = _held(model)
    resolved = schedule.resolve(family.token_geometry(model) if held is None else held.geometry)
    _check_steps(family, model, resolved)
    attach_(model, [Location.of(step) for step in resolved], seed=seed)
    set_schedule_(model, schedule)


def restore_(model: nn.Module) -> None:
    """Give a sparse model back exactly as it was: classes, attributes and `state_dict`. A dense one is left alone."""
    if _held(model) is None:
        family_of(model)
        return
    unpatch_(model)
    del model.sparsity


def _held(model: nn.Module) -> Sparsity | None:
    sparsity = getattr(model, "sparsity", None)
    return sparsity if isinstance(sparsity, Sparsity) else None


def _make_sparse_(family: Family, model: Any, shape: BackboneGeometry, seed: int) -> Sparsity:
    state = family.new_state(model, shape, torch.Generator().manual_seed(seed))
    family.patch_(model, state)
    sparsity = Sparsity(shape, state)
    model.sparsity = sparsity
    return sparsity


def _spelled_out(location: Location, shape: BackboneGeometry) -> Location:
    """The location with the number of layers that its scorer reads.

    Raises:
        ScheduleError: The place does not exist, or what is asked of it cannot be done there.
    """
    stage = stage_of(shape, location.stage, location.block)
    if isinstance(location.scorer, SpotScorer) and not location.num_layers:
        if location.scorer.layers == "since_last":
            raise ScheduleError(
                "what SPOT reads since the last step depends on the whole schedule; "
                "use sparsify_, or give layers a number"
            )
        so_far = location.as_step.last_attention + 1
        num_layers = so_far if location.scorer.layers == "all" else min(location.scorer.layers, so_far)
        location = location._replace(num_layers=num_layers)
    check_step(location.as_step, stage, shape.name)
    return location


def _check_steps(family: Family, model: nn.Module, resolved: tuple[ResolvedStep, ...]) -> None:
    """Refuse a schedule that the model cannot run, before anything is changed."""
    learned: set[str] = set()
    for step in resolved:
        family.check_step(model, step)
        name = Location.of(step).name
        if is_learned(step.scorer):
            if name in learned:
                raise ScheduleError(
                    f"two steps at block {step.block} ({step.phase}) would share one predictor; keep only the last"
                )
            learned.add(name)


def _probes(sparsity: Sparsity, resolved: tuple[ResolvedStep, ...]) -> dict[Place, tuple[PlannedStep, ...]]:
    """The learned scorers of all attached places, each with the tokens that arrive there under the schedule.

    A scorer that serves several reductions at its place scores once.
    """
    probes: dict[Place, tuple[PlannedStep, ...]] = {}
    by_name = {location.name: location for location in sparsity.locations if is_learned(location.scorer)}
    for _, location in sorted(by_name.items()):
        here = location.as_step
        num_alive = sparsity.geometry.stages[location.stage].num_tokens
        if location.reducer.kind != "fast_slow":
            for step in resolved:
                if step.stage == location.stage and _order(step) < _order(here):
                    num_alive = step.num_tokens
        scored = here.model_copy(update={"num_before": num_alive, "num_tokens": num_alive})
        place = (location.stage, location.block, location.phase)
        probe = PlannedStep.of(scored, name=location.name, scorer=sparsity.scorer(location))
        probes[place] = (*probes.get(place, ()), probe)
    return probes


def _order(step: ResolvedStep) -> tuple[int, bool]:
    return step.block, step.phase == "before_ffn"

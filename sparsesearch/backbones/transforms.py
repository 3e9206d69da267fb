"""In-place transforms that make a model of any family sparse. `restore_` reverts all of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from sparsesearch.backbones import families
from sparsesearch.backbones.class_change import unpatch_
from sparsesearch.backbones.discovery import modules_of
from sparsesearch.backbones.family import Family
from sparsesearch.backbones.sparsity import Location, Sparsity, describe_class, sparsity_of
from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule import ResolvedStep, Schedule, check_step, stage_of
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import DynamicVitScorer, SpotScorer, is_learned
from sparsesearch.sparsify.model_plan import Plan, PlannedStep, StageTokens
from sparsesearch.sparsify.scorers import build_predictor
from sparsesearch.sparsify.state import SparsityState

FAMILIES: tuple[Family, ...] = tuple(cast(Family, module) for module in modules_of(families))

SUPPORTED = f"supported are {', '.join(family.DESCRIPTION for family in FAMILIES)}, and the bundled backbones"


def family_of(model: nn.Module) -> Family:
    """The family of a model.

    Raises:
        BackboneError: The model belongs to no supported family.
    """
    for family in FAMILIES:
        if family.matches(model):
            return family
    raise BackboneError(f"{describe_class(model)} cannot be sparsified; {SUPPORTED}")


def attach_(model: nn.Module, locations: Iterable[Location | tuple[Any, ...]], *, seed: int = 0) -> None:
    """Prepare a model for schedules at candidate locations, in place; its outputs do not change.

    Can be called again to add locations.

    Args:
        model: Any supported model.
        locations: `(stage, block, phase, scorer, reducer)` each; phase and everything after it are optional.
        seed: Seed of new weights and, on the first call, of the model's noise.

    Raises:
        BackboneError: The model is unsupported.
        ScheduleError: A location does not exist, or its method cannot be used there.
    """
    family = family_of(model)
    existing = _existing_sparsity(model)
    if existing is not None:
        _refuse_frozen(existing)
    shape = family.token_geometry(model) if existing is None else existing.geometry
    resolved = [_with_num_layers(Location(*location), shape) for location in locations]
    for location in resolved:
        family.check_step(model, location.as_step)
    sparsity = existing or _make_sparse_(family, model, shape, seed)
    like = next(model.parameters())
    for location in resolved:
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
    """Switch a sparse model to another schedule, without patching or building anything.

    Args:
        model: A model prepared by `attach_` or `sparsify_`.
        schedule: Any schedule whose predictors and fast paths are attached.

    Raises:
        BackboneError: The model is not sparse.
        ScheduleError: The schedule does not fit the model, or needs something that is not attached.
    """
    sparsity = sparsity_of(model)
    _refuse_frozen(sparsity)
    family = family_of(model)
    resolved = schedule.resolve(sparsity.geometry)
    _check_steps(family, model, resolved)
    steps = tuple(_planned(sparsity, step) for step in resolved)
    bare = Plan(stages=_stage_tokens(sparsity.geometry), steps=steps, probes=_probes(sparsity, resolved))
    sparsity.orders.to(next(model.parameters()).device)
    sparsity.state.plan = family.complete_plan(model, sparsity, resolved, bare)
    sparsity.schedule = schedule


def sparsify_(model: nn.Module, schedule: Schedule, *, seed: int = 0) -> None:
    """Make a model run a schedule, in place; a sparse model switches to it, and missing parts are attached.

    Args:
        model: Any supported model.
        schedule: The schedule to run.
        seed: As in `attach_`.

    Raises:
        BackboneError: The model is unsupported.
        ScheduleError: The schedule does not fit the model.
    """
    family = family_of(model)
    existing = _existing_sparsity(model)
    resolved = schedule.resolve(family.token_geometry(model) if existing is None else existing.geometry)
    _check_steps(family, model, resolved)
    attach_(model, [Location.of(step) for step in resolved], seed=seed)
    set_schedule_(model, schedule)


def restore_(model: nn.Module) -> None:
    """Restore the dense model exactly: classes, attributes and `state_dict`. A dense model is not changed."""
    if _existing_sparsity(model) is None:
        family_of(model)
        return
    unpatch_(model)
    del model.sparsity


def freeze_(model: nn.Module) -> None:
    """Make a sparse model fit to be served, exported and compiled, in place: inference under its schedule alone.

    Scorers and fast paths that its schedule does not use are removed, parameters need no gradients, and nothing of a
    pass is kept: no trace, no generator, no probes. Several threads may share a frozen model. `restore_` still gives
    the dense model.

    Args:
        model: A sparse model.

    Raises:
        BackboneError: The model is not sparse.
    """
    sparsity = sparsity_of(model)
    plan = replace(sparsity.state.plan, probes=(), probe_captures=())
    used = {step.scorer for step in plan.steps}
    paths = {name for _, name in plan.fast_paths}
    for parts, names in ((sparsity.predictors, used), (sparsity.orders, used), (sparsity.fast_paths, paths)):
        for name in [name for name in parts if name not in names]:
            del parts[name]
    sparsity.controls = {name: control for name, control in sparsity.controls.items() if name in used}
    sparsity.state.freeze_(plan)
    model.eval().requires_grad_(False)


def _refuse_frozen(sparsity: Sparsity) -> None:
    if sparsity.state.frozen:
        raise BackboneError("the model is frozen; load it again to change its schedule")


def _existing_sparsity(model: nn.Module) -> Sparsity | None:
    sparsity = getattr(model, "sparsity", None)
    return sparsity if isinstance(sparsity, Sparsity) else None


def _make_sparse_(family: Family, model: Any, shape: BackboneGeometry, seed: int) -> Sparsity:
    state = SparsityState(generator=torch.Generator().manual_seed(seed), plan=Plan(stages=_stage_tokens(shape)))
    family.patch_(model, state)
    sparsity = Sparsity(shape, state, family.CALL)
    model.sparsity = sparsity
    return sparsity


def _with_num_layers(location: Location, shape: BackboneGeometry) -> Location:
    """The location with the number of layers that its scorer reads.

    Raises:
        ScheduleError: The location does not exist, or its method cannot be used there.
    """
    stage = stage_of(shape, location.stage, location.block)
    if isinstance(location.scorer, SpotScorer) and not location.num_layers:
        if location.scorer.layers == "since_last":
            raise ScheduleError(
                'the layers that SPOT reads with layers="since_last" depend on the whole schedule; '
                "use sparsify_, or set layers to a number"
            )
        so_far = location.as_step.last_attention + 1
        num_layers = so_far if location.scorer.layers == "all" else min(location.scorer.layers, so_far)
        location = location._replace(num_layers=num_layers)
    check_step(location.as_step, stage, shape.name)
    return location


def _check_steps(family: Family, model: nn.Module, resolved: tuple[ResolvedStep, ...]) -> None:
    """Check that the model can run a schedule, before anything is changed."""
    learned: set[str] = set()
    for step in resolved:
        family.check_step(model, step)
        name = Location.of(step).name
        if is_learned(step.scorer):
            if name in learned:
                raise ScheduleError(
                    f"two steps at block {step.block} ({step.phase}) would share one predictor; keep only the last one"
                )
            learned.add(name)


def _planned(sparsity: Sparsity, step: ResolvedStep) -> PlannedStep:
    location = Location.of(step)
    return PlannedStep.of(step, name=location.name, scorer=sparsity.scorer_name(location))


def _stage_tokens(shape: BackboneGeometry) -> tuple[StageTokens, ...]:
    return tuple(StageTokens(stage.grid, stage.num_prefix_tokens, stage.has_class_token) for stage in shape.stages)


def _probes(sparsity: Sparsity, resolved: tuple[ResolvedStep, ...]) -> tuple[PlannedStep, ...]:
    """The learned scorers of all attached locations, each with the number of tokens that it receives in the schedule.

    A scorer used by several reductions at its location scores once.
    """
    probes: list[PlannedStep] = []
    by_name = {location.name: location for location in sparsity.locations if is_learned(location.scorer)}
    for name, location in sorted(by_name.items()):
        here = location.as_step
        num_alive = sparsity.geometry.stages[location.stage].num_tokens
        if location.reducer.kind != "fast_slow":
            for step in resolved:
                if step.stage == location.stage and _order(step) < _order(here):
                    num_alive = step.num_tokens
        scored = here.model_copy(update={"num_before": num_alive, "num_tokens": num_alive})
        probes.append(PlannedStep.of(scored, name=name, scorer=sparsity.scorer_name(location)))
    return tuple(probes)


def _order(step: ResolvedStep) -> tuple[int, bool]:
    return step.block, step.phase == "before_ffn"

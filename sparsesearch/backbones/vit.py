"""Sparse isotropic ViTs: any timm `VisionTransformer`, in place, without a copy of its forward code.

Live modules change their class to a subclass that runs the steps of the schedule and then calls timm's own forward.
Weights, dense `state_dict` keys and `isinstance` survive; `restore_` gives the classes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from sparsesearch.backbones.vit_blocks import is_plain_block, patch_, unpatch_
from sparsesearch.backbones.vit_geometry import as_vit, describe_class, token_geometry
from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.methods import DynamicVitScorer, Scorer
from sparsesearch.schedule import Phase, ResolvedStep, Schedule
from sparsesearch.sparsify.scorers import TokenScorer, build_control, build_predictor, is_learned
from sparsesearch.sparsify.state import Place, PlannedStep, SparsityState


class Location(NamedTuple):
    """A place where a scorer may sit, and which scorer."""

    stage: int
    block: int
    phase: Phase = "before_block"
    scorer: Scorer = DynamicVitScorer()

    @property
    def name(self) -> str:
        """The place as it stands in parameter names."""
        return f"{self.stage}_{self.block}" + ("_ffn" if self.phase == "before_ffn" else "")


class Sparsity(nn.Module):
    """All that sparsification adds to a model; it hangs there as `model.sparsity`.

    Attributes:
        predictors: Learned scorers by place: `sparsity.predictors.0_3.in_conv.0.weight` and so on.
        state: What the blocks share.
        geometry: Token counts of the model; its MACs are not filled in.
        schedule: The schedule in force.
        locations: The attached places, each with its scorer.
        controls: Scorers without parameters that have been used so far.
    """

    def __init__(self, geometry: BackboneGeometry, state: SparsityState) -> None:
        super().__init__()
        self.predictors = nn.ModuleDict()
        self.state = state
        self.geometry = geometry
        self.schedule = Schedule()
        self.locations: set[Location] = set()
        self.controls: dict[Scorer, TokenScorer] = {}

    def scorer(self, location: Location) -> TokenScorer:
        """The scorer of a place.

        Raises:
            ScheduleError: Nothing learned is attached there.
        """
        if isinstance(location.scorer, DynamicVitScorer):
            if location.name not in self.predictors:
                raise ScheduleError(
                    f"no predictor at block {location.block} ({location.phase}); attach_ it first, or use sparsify_"
                )
            predictor: Any = self.predictors[location.name]
            scorer: TokenScorer = predictor
            return scorer
        if location.scorer not in self.controls:
            num_tokens = self.geometry.stages[location.stage].num_tokens
            self.controls[location.scorer] = build_control(location.scorer, num_tokens=num_tokens)
        return self.controls[location.scorer]


def sparsity_of(model: nn.Module) -> Sparsity:
    """What sparsification added to a model.

    Raises:
        BackboneError: The model is not sparse.
    """
    sparsity = getattr(model, "sparsity", None)
    if not isinstance(sparsity, Sparsity):
        raise BackboneError(f"{describe_class(model)} is not sparse; call sparsify_ or attach_ first")
    return sparsity


def matches(model: nn.Module) -> bool:
    """Whether this adapter is for the model."""
    return isinstance(model, VisionTransformer)


def attach_(model: nn.Module, locations: Iterable[Location | tuple[Any, ...]], *, seed: int = 0) -> None:
    """Make a model ready for schedules at the given places, in place; its outputs do not change.

    May be called again to add places.

    Args:
        model: A timm `VisionTransformer`.
        locations: `(stage, block, phase, scorer)` each; phase and scorer may be left out.
        seed: Seed of new predictors' weights and, the first time, of the model's noise.

    Raises:
        BackboneError: The model is of an unsupported kind.
        ScheduleError: A place does not exist.
    """
    vit = as_vit(model)
    sparsity = vit.sparsity if isinstance(getattr(vit, "sparsity", None), Sparsity) else None
    geometry = sparsity.geometry if sparsity is not None else token_geometry(vit)
    wanted = [Location(*location) for location in locations]
    for location in wanted:
        _check_location(vit, location, geometry)
    if sparsity is None:
        sparsity = _make_sparse_(vit, geometry, seed)
    like = next(vit.parameters())
    for location in wanted:
        if isinstance(location.scorer, DynamicVitScorer) and location.name not in sparsity.predictors:
            predictor = build_predictor(
                location.scorer, dim=geometry.stages[location.stage].dim, name=location.name, seed=seed
            )
            sparsity.predictors[location.name] = predictor.to(like).train(vit.training)
        sparsity.locations.add(location)
    set_schedule_(vit, sparsity.schedule)


def set_schedule_(model: nn.Module, schedule: Schedule) -> None:
    """Switch a sparse model to another schedule; nothing is patched or built.

    Args:
        model: A model that `attach_` or `sparsify_` has seen.
        schedule: Any schedule whose predictors are attached.

    Raises:
        BackboneError: The model is not sparse.
        ScheduleError: The schedule does not fit the model, or needs a predictor that is not attached.
    """
    sparsity = sparsity_of(model)
    resolved = schedule.resolve(sparsity.geometry)
    _check_steps(model, resolved, sparsity.geometry)
    plan: dict[Place, tuple[PlannedStep, ...]] = {}
    num_alive = sparsity.geometry.stages[0].num_tokens
    for step in resolved:
        location = _location_of(step)
        place = (step.block, step.phase)
        planned = PlannedStep(
            location.name, num_alive, step.num_tokens, sparsity.scorer(location), is_learned(step.scorer)
        )
        plan[place] = (*plan.get(place, ()), planned)
        num_alive = step.num_tokens
    sparsity.state.plan = plan
    sparsity.state.probes = _probes(sparsity, resolved)
    sparsity.schedule = schedule


def sparsify_(model: nn.Module, schedule: Schedule, *, seed: int = 0) -> None:
    """Make a model run a schedule, in place: `attach_` what it needs, then `set_schedule_`.

    Args:
        model: A timm `VisionTransformer`, sparse already or not.
        schedule: What to run.
        seed: As in `attach_`.

    Raises:
        BackboneError: The model is of an unsupported kind.
        ScheduleError: The schedule does not fit the model.
    """
    vit = as_vit(model)
    geometry = vit.sparsity.geometry if isinstance(getattr(vit, "sparsity", None), Sparsity) else token_geometry(vit)
    resolved = schedule.resolve(geometry)
    _check_steps(vit, resolved, geometry)
    attach_(vit, [_location_of(step) for step in resolved], seed=seed)
    set_schedule_(vit, schedule)


def restore_(model: nn.Module) -> None:
    """Give a sparse model back as it was: classes, attributes and `state_dict` keys. A dense model is left alone."""
    if not isinstance(getattr(model, "sparsity", None), Sparsity):
        return
    unpatch_(model)
    del model.sparsity


def _make_sparse_(vit: Any, geometry: BackboneGeometry, seed: int) -> Sparsity:
    state = SparsityState(
        num_prefix_tokens=geometry.stages[0].num_prefix_tokens,
        num_tokens=geometry.stages[0].num_tokens,
        generator=torch.Generator().manual_seed(seed),
    )
    patch_(vit, state)
    vit.sparsity = Sparsity(geometry, state)
    sparsity: Sparsity = vit.sparsity
    return sparsity


def _location_of(step: ResolvedStep) -> Location:
    return Location(step.stage, step.block, step.phase, step.scorer)


def _check_steps(model: Any, resolved: tuple[ResolvedStep, ...], geometry: BackboneGeometry) -> None:
    """Refuse a schedule that the model cannot run, before anything is changed."""
    learned_places: set[tuple[int, Phase]] = set()
    for step in resolved:
        _check_location(model, _location_of(step), geometry)
        if is_learned(step.scorer):
            place = (step.block, step.phase)
            if place in learned_places:
                raise ScheduleError(
                    f"two steps at block {step.block} ({step.phase}) would share one predictor; keep only the last"
                )
            learned_places.add(place)


def _check_location(model: Any, location: Location, geometry: BackboneGeometry) -> None:
    if location.stage != 0:
        raise ScheduleError(f"stage {location.stage} does not exist: {geometry.name} has stage 0 only")
    depth = geometry.stages[0].depth
    if not 0 <= location.block < depth:
        raise ScheduleError(f"block {location.block} does not exist: {geometry.name} has blocks 0 to {depth - 1}")
    if location.phase == "before_ffn":
        block = model.blocks[location.block]
        if not is_plain_block(block):
            raise ScheduleError(
                f"before_ffn needs timm's plain Block, but block {location.block} is a {describe_class(block)}; "
                "use phase before_block"
            )


def _probes(sparsity: Sparsity, resolved: tuple[ResolvedStep, ...]) -> dict[Place, PlannedStep]:
    """The scorers of all attached places, each with the tokens that arrive there under the schedule."""
    probes: dict[Place, PlannedStep] = {}
    for location in sparsity.locations:
        if is_learned(location.scorer):
            phase_is_late = location.phase == "before_ffn"
            num_alive = sparsity.geometry.stages[0].num_tokens
            for step in resolved:
                if (step.block, step.phase == "before_ffn") < (location.block, phase_is_late):
                    num_alive = step.num_tokens
            scorer = sparsity.scorer(location)
            probes[location.block, location.phase] = PlannedStep(location.name, num_alive, num_alive, scorer, True)
    return probes

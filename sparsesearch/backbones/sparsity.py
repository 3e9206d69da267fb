"""What sparsification adds to a model, whatever its family."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from torch import nn

from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule import Phase, ResolvedStep, Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import DynamicVitScorer, Prune, Reducer, Scorer, SpotScorer, is_learned
from sparsesearch.sparsify.scorers import TokenScorer, build_control
from sparsesearch.sparsify.state import SparsityState


class Location(NamedTuple):
    """A place where a step may be, and what it may do there.

    Attributes:
        stage: Stage index.
        block: 0-based block inside the stage.
        phase: As in `Step`.
        scorer: What ranks tokens.
        reducer: What happens to those that are not kept.
        num_layers: Layers whose statistics the scorer reads; left at 0, those its `layers` asks for, counted from the
            first block.
    """

    stage: int
    block: int
    phase: Phase = "before_block"
    scorer: Scorer | None = DynamicVitScorer()
    reducer: Reducer = Prune()
    num_layers: int = 0

    @classmethod
    def of(cls, step: ResolvedStep) -> Location:
        """Where a step is."""
        return cls(step.stage, step.block, step.phase, step.scorer, step.reducer, step.num_layers)

    @property
    def name(self) -> str:
        """The place as it stands in parameter names; learned scorers of several kinds live beside each other."""
        place = f"{self.stage}_{self.block}" + ("_ffn" if self.phase == "before_ffn" else "")
        if not isinstance(self.scorer, SpotScorer):
            return place
        usual = SpotScorer(layers=self.scorer.layers)
        if self.scorer == usual:
            return f"{place}_spot{self.num_layers}"
        options = self.scorer.model_dump_json(exclude={"layers"})
        return f"{place}_spot{self.num_layers}_{hashlib.sha256(options.encode()).hexdigest()[:6]}"

    @property
    def as_step(self) -> ResolvedStep:
        """A step of this kind here, with meaningless token counts."""
        return ResolvedStep(
            stage=self.stage,
            block=self.block,
            phase=self.phase,
            num_tokens=1,
            reducer=self.reducer,
            scorer=self.scorer,
            num_before=2,
            num_layers=self.num_layers,
        )


class Sparsity(nn.Module):
    """All that sparsification adds to a model; it hangs there as `model.sparsity`.

    Attributes:
        predictors: Learned scorers by place: `sparsity.predictors.0_3.in_conv.0.weight` and so on.
        fast_paths: What replaces feed-forward networks, by stage and block (hierarchical models).
        state: What the modules of the model share.
        geometry: Token counts of the model; its MACs are not filled in.
        schedule: The schedule in force.
        locations: The attached places.
        controls: Scorers without parameters that have been used so far, by kind and number of tokens.
    """

    def __init__(self, geometry: BackboneGeometry, state: SparsityState) -> None:
        super().__init__()
        self.predictors = nn.ModuleDict()
        self.fast_paths = nn.ModuleDict()
        self.state = state
        self.geometry = geometry
        self.schedule = Schedule()
        self.locations: set[Location] = set()
        self.controls: dict[tuple[Scorer, int], TokenScorer] = {}

    def scorer(self, location: Location) -> TokenScorer | None:
        """The scorer of a place, None where nothing is ranked.

        Raises:
            ScheduleError: Nothing learned is attached there.
        """
        if location.scorer is None:
            return None
        if is_learned(location.scorer):
            if location.name not in self.predictors:
                raise ScheduleError(
                    f"no {location.scorer.kind} predictor at block {location.block} ({location.phase}); "
                    "attach_ it first, or use sparsify_"
                )
            predictor: Any = self.predictors[location.name]
            scorer: TokenScorer = predictor
            return scorer
        num_tokens = self.geometry.stages[location.stage].num_tokens
        key = (location.scorer, num_tokens)
        if key not in self.controls:
            self.controls[key] = build_control(location.scorer, num_tokens=num_tokens)
        return self.controls[key]


def sparsity_of(model: nn.Module) -> Sparsity:
    """What sparsification added to a model.

    Raises:
        BackboneError: The model is not sparse.
    """
    sparsity = getattr(model, "sparsity", None)
    if not isinstance(sparsity, Sparsity):
        raise BackboneError(f"{describe_class(model)} is not sparse; call sparsify_ or attach_ first")
    return sparsity


def describe_class(module: object) -> str:
    """The name of a module's class as the user knows it."""
    return own_class(module).__name__


def own_class(module: object) -> type:
    """The class that a module has, or had before it was made sparse."""
    kind: type = getattr(type(module), "sparsity_base", type(module))
    return kind

"""The module that sparsification adds to a model of any family."""

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
    """A candidate location of a step, with its method.

    Attributes:
        stage: Stage index.
        block: 0-based block inside the stage.
        phase: As in `Step`.
        scorer: Ranks the tokens.
        reducer: Determines what happens to tokens that are not kept.
        num_layers: Layers whose statistics the scorer reads; 0 to derive it from its `layers`, counted from the first
            block.
    """

    stage: int
    block: int
    phase: Phase = "before_block"
    scorer: Scorer | None = DynamicVitScorer()
    reducer: Reducer = Prune()
    num_layers: int = 0

    @classmethod
    def of(cls, step: ResolvedStep) -> Location:
        """The location of a step."""
        return cls(step.stage, step.block, step.phase, step.scorer, step.reducer, step.num_layers)

    @property
    def name(self) -> str:
        """The location in parameter names; it includes the kind of scorer, as several can be attached to a block."""
        name = f"{self.stage}_{self.block}" + ("_ffn" if self.phase == "before_ffn" else "")
        if not isinstance(self.scorer, SpotScorer):
            return name
        default = SpotScorer(layers=self.scorer.layers)
        if self.scorer == default:
            return f"{name}_spot{self.num_layers}"
        options = self.scorer.model_dump_json(exclude={"layers"})
        return f"{name}_spot{self.num_layers}_{hashlib.sha256(options.encode()).hexdigest()[:6]}"

    @property
    def as_step(self) -> ResolvedStep:
        """A step with this method at this location, with placeholder token counts."""
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
    """Everything that sparsification adds to a model, available as `model.sparsity`.

    Attributes:
        predictors: Learned scorers by location: `sparsity.predictors.0_3.in_conv.0.weight` and so on.
        fast_paths: Replacements of feed-forward networks, by stage and block (hierarchical models).
        state: State shared by the modules of the model.
        geometry: Token counts of the model; its MACs are not set.
        schedule: The current schedule.
        locations: The attached locations.
        controls: Cache of scorers without parameters, by kind and number of tokens.
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
        """The scorer of a location, None if tokens are not ranked.

        Raises:
            ScheduleError: The learned scorer is not attached.
        """
        if location.scorer is None:
            return None
        if is_learned(location.scorer):
            if location.name not in self.predictors:
                raise ScheduleError(
                    f"no {location.scorer.kind} predictor at block {location.block} ({location.phase}); "
                    "call attach_ first, or use sparsify_"
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
    """The sparsity module of a model.

    Raises:
        BackboneError: The model is not sparse.
    """
    sparsity = getattr(model, "sparsity", None)
    if not isinstance(sparsity, Sparsity):
        raise BackboneError(f"{describe_class(model)} is not sparse; call sparsify_ or attach_ first")
    return sparsity


def describe_class(module: object) -> str:
    """The name of a module's original class."""
    return original_class(module).__name__


def original_class(module: object) -> type:
    """The class of a module, or the one it had before it was made sparse."""
    kind: type = getattr(type(module), "sparsity_base", type(module))
    return kind

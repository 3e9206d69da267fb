"""The module that sparsification adds to a model of any family."""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple

from torch import nn

from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule import Phase, ResolvedStep, Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import DynamicVitScorer, Prune, Reducer, Scorer, SpotScorer, is_learned
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.model_plan import PlannedStep
from sparsesearch.sparsify.scorers import TokenScorer, build_control
from sparsesearch.sparsify.state import CallOptions, SparsityState
from sparsesearch.sparsify.trace import Trace


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
        state: Settings of the model, shared by its modules.
        geometry: Token counts of the model; its MACs are not set.
        schedule: The current schedule.
        locations: The attached locations.
        controls: Scorers without parameters and buffers, by name.
        orders: Scorers without parameters that have a buffer, by name.
    """

    def __init__(self, geometry: BackboneGeometry, state: SparsityState, call_class: type[Call]) -> None:
        super().__init__()
        self.predictors = nn.ModuleDict()
        self.fast_paths = nn.ModuleDict()
        self.orders = nn.ModuleDict()
        self.state = state
        self.geometry = geometry
        self.schedule = Schedule()
        self.locations: set[Location] = set()
        self.controls: dict[str, TokenScorer] = {}
        self._call_class = call_class

    def begin(self, *, training: bool, options: CallOptions | None = None, trace: Trace | None = None) -> Any:
        """Begin a forward pass: the `Call` of the family.

        Args:
            training: Whether the model is in training mode.
            options: Options of the pass; None for those of a plain pass under the current settings.
            trace: Trace of the pass to resume; None for a new one.
        """
        state = self.state
        if training and state.frozen:
            raise BackboneError("a frozen model cannot be trained; load it again, or call eval()")
        if options is None:
            options = state.plain_options(training=training)
        return self._call_class(self, state.plan, options, training=training, trace=trace)

    def scorer_name(self, location: Location) -> str | None:
        """The name of the scorer of a location, None if tokens are not ranked; one without parameters is built.

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
            return location.name
        num_tokens = self.geometry.stages[location.stage].num_tokens
        digest = hashlib.sha256(location.scorer.model_dump_json().encode()).hexdigest()
        name = f"{location.scorer.kind}_{digest[:8]}_of_{num_tokens}"
        if name not in self.controls and name not in self.orders:
            control = build_control(location.scorer, num_tokens=num_tokens)
            if isinstance(control, nn.Module):
                self.orders[name] = control
            else:
                self.controls[name] = control
        return name

    def scorer(self, step: PlannedStep) -> TokenScorer:
        """The scorer of a step that ranks tokens."""
        assert step.scorer is not None
        scorer: Any = self.controls.get(step.scorer)
        if scorer is None:
            scorer = (self.predictors if step.learned else self.orders)[step.scorer]
        found: TokenScorer = scorer
        return found

    def fast_path(self, name: str) -> nn.Module:
        """A fast path by name."""
        return self.fast_paths[name]


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

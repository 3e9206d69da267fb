"""State shared by the modules of a sparse model of any family: options, active steps, and the last forward pass.

Shapes: `B` batch, `N` patch tokens, `C` channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sparsesearch.errors import BackboneError
from sparsesearch.schedule import Phase, ResolvedStep
from sparsesearch.schedule.methods import Prune, Reducer, is_learned
from sparsesearch.sparsify.scorers import TokenScorer
from sparsesearch.sparsify.trace import StepTrace

Mode = Literal["gather", "masked"]
LocationKey = tuple[int, int, Phase]
"""Stage, block and phase."""


@dataclass(frozen=True, eq=False)
class PlannedStep:
    """One step of the current schedule, or a probe (`num_kept` equal to `num_alive`: score, drop nothing).

    Attributes:
        name: The location in parameter names: `0_3`, or `0_3_ffn` between attention and feed-forward.
        num_alive: Number of input patch tokens.
        num_kept: Number of output patch tokens, or of positions on the slow path.
        scorer: Ranks the tokens; None if they are not ranked.
        learned: Whether the scorer has parameters.
        num_layers: Layers whose statistics the scorer reads.
        reducer: Determines what happens to tokens that are not kept.
        stage: Stage of the step.
    """

    name: str
    num_alive: int
    num_kept: int
    scorer: TokenScorer | None
    learned: bool
    num_layers: int = 0
    reducer: Reducer = field(default_factory=Prune)
    stage: int = 0

    @classmethod
    def of(cls, step: ResolvedStep, *, name: str, scorer: TokenScorer | None) -> PlannedStep:
        """Create the planned step of a resolved step."""
        return cls(
            name=name,
            num_alive=step.num_before,
            num_kept=step.num_tokens,
            scorer=scorer,
            learned=is_learned(step.scorer),
            num_layers=step.num_layers,
            reducer=step.reducer,
            stage=step.stage,
        )


@dataclass
class Trace:
    """Trace of the last forward pass.

    A copy of a model starts with an empty trace, as tensors with a gradient history cannot be copied.

    Attributes:
        steps: Every step and probe, in order of execution.
        final_tokens_BNC: Patch tokens after the backbone's last norm, if requested.
    """

    steps: list[StepTrace] = field(default_factory=list)
    final_tokens_BNC: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Trace:
        return type(self)()

    def at(self, name: str) -> StepTrace:
        """The last step at a location.

        Raises:
            KeyError: There was none.
        """
        for step in reversed(self.steps):
            if step.name == name:
                return step
        raise KeyError(name)


@dataclass
class SparsityState:
    """State of one sparse model, shared by all of its modules. Not thread-safe.

    Attributes:
        generator: Source of all noise of this model.
        mode: Training with gathered tokens, or with masks (DynamicViT). Evaluation always gathers.
        noise: Scale of the logistic noise on scores in gathered training; 0 for deterministic selection.
        probe: Also score, without dropping tokens, at every attached location that has no step.
        record: Keep a trace of scores and indices. Disable for export, where only the logits may leave the graph.
        keep_final_tokens: Also keep the final patch tokens in the trace.
        checkpoints: Whether blocks are recomputed in the backward pass; set during a forward pass.
        forced: Decisions by location that replace the samples of masked training, `B x N` zeros and ones each, in
            raster order and, for tokens, before the product with the previous decision.
        plan: Active steps by location. Replaced as a whole, never changed during a forward pass.
        probes: Scorers of all attached locations.
        trace: Trace of the last forward pass.
    """

    generator: torch.Generator
    mode: Mode = "gather"
    noise: float = 0.0
    probe: bool = False
    record: bool = True
    keep_final_tokens: bool = False
    checkpoints: bool = False
    forced: Mapping[str, Tensor] | None = None
    plan: Mapping[LocationKey, tuple[PlannedStep, ...]] = field(default_factory=dict)
    probes: Mapping[LocationKey, tuple[PlannedStep, ...]] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace)

    def begin(self) -> None:
        """Reset the trace at the start of a forward pass."""
        if self.mode not in ("gather", "masked"):
            raise BackboneError(f'invalid mode {self.mode!r}; choose "gather" or "masked"')
        self.trace = type(self.trace)()

    def masks(self, training: bool) -> bool:
        """Whether tokens are masked instead of gathered."""
        return training and self.mode == "masked" and bool(self.plan)

    def steps_at(self, location: LocationKey) -> tuple[PlannedStep, ...]:
        """The steps and probes at a location, in order."""
        steps = self.plan.get(location, ())
        if not self.probe:
            return steps
        running = {step.name for step in steps}
        return (*(probe for probe in self.probes.get(location, ()) if probe.name not in running), *steps)

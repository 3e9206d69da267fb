"""What the modules of one sparse model share, whatever its family: settings, the steps in force, and what happened.

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
Place = tuple[int, int, Phase]


@dataclass(frozen=True, eq=False)
class PlannedStep:
    """One step of the schedule in force, or a probe (`num_kept` equal to `num_alive`: score, drop nothing).

    Attributes:
        name: The place as it stands in parameter names: `0_3`, or `0_3_ffn` between attention and feed-forward.
        num_alive: Patch tokens that arrive.
        num_kept: Patch tokens that go on, or positions on the slow path.
        scorer: What ranks them, if anything does.
        learned: Whether the scorer has parameters.
        num_layers: Layers whose statistics the scorer reads.
        reducer: What happens to the others.
        stage: Its stage.
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
        """The plan of a step."""
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
    """The last forward pass.

    A copy of a model starts with an empty trace: tensors with a history cannot be copied, and the copy has run nothing.

    Attributes:
        steps: Every step and probe, in order of execution.
        final_tokens_BNC: Patch tokens behind the backbone's last norm, if asked for.
    """

    steps: list[StepTrace] = field(default_factory=list)
    final_tokens_BNC: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Trace:
        return type(self)()

    def at(self, name: str) -> StepTrace:
        """The last step at a place.

        Raises:
            KeyError: There was none.
        """
        for step in reversed(self.steps):
            if step.name == name:
                return step
        raise KeyError(name)


@dataclass
class SparsityState:
    """Settings of one sparse model; every module of it holds this same object. Not thread-safe.

    Attributes:
        generator: Source of all noise of this model.
        mode: Training with tokens really gathered, or with masks (DynamicViT). Evaluation always gathers.
        noise: Scale of the logistic noise on scores in gathered training; 0 chooses the best-scored tokens.
        probe: Also score, without dropping anything, at every attached place that has no step of its own.
        record: Keep a trace of scores and indices. Turn off for export, where only the logits may leave the graph.
        keep_final_tokens: Also keep the final patch tokens in the trace.
        checkpoints: Whether blocks are computed again in the backward pass; set while a model runs.
        forced: Decisions by place that replace the random draw of masked training, `B x N` zeros and ones each, in
            raster order and, for tokens, before the product with the previous decision.
        plan: Steps in force, by stage, block and phase. Replaced as a whole, never changed while a model runs.
        probes: Scorers of all attached places, by stage, block and phase.
        trace: The last forward pass.
    """

    generator: torch.Generator
    mode: Mode = "gather"
    noise: float = 0.0
    probe: bool = False
    record: bool = True
    keep_final_tokens: bool = False
    checkpoints: bool = False
    forced: Mapping[str, Tensor] | None = None
    plan: Mapping[Place, tuple[PlannedStep, ...]] = field(default_factory=dict)
    probes: Mapping[Place, tuple[PlannedStep, ...]] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace)

    def begin(self) -> None:
        """Forget the last forward pass."""
        if self.mode not in ("gather", "masked"):
            raise BackboneError(f'no training mode {self.mode!r}; use "gather" or "masked"')
        self.trace = type(self.trace)()

    def masks(self, training: bool) -> bool:
        """Whether everything stays in its tensor and is masked."""
        return training and self.mode == "masked" and bool(self.plan)

    def steps_at(self, place: Place) -> tuple[PlannedStep, ...]:
        """What runs at a place, in order."""
        steps = self.plan.get(place, ())
        if not self.probe:
            return steps
        running = {step.name for step in steps}
        return (*(probe for probe in self.probes.get(place, ()) if probe.name not in running), *steps)

"""The plan of a sparse model: everything that it does differently from the dense model, as one hashable value.

A plan has no tensors and no modules. Scorers and fast paths are named; a call finds them in the model that runs it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from sparsesearch.schedule import Phase, ResolvedStep
from sparsesearch.schedule.methods import Prune, Reducer, is_learned
from sparsesearch.sparsify.attention import Captures

Block = tuple[int, int]
"""Stage and block."""

LocationKey = tuple[int, int, Phase]
"""Stage, block and phase."""


class StageTokens(NamedTuple):
    """The tokens of one stage.

    Attributes:
        grid: Height and width of the token grid.
        num_prefix_tokens: Class and register tokens, never dropped.
        has_class_token: Whether the first prefix token is a class token.
    """

    grid: tuple[int, int]
    num_prefix_tokens: int = 0
    has_class_token: bool = False

    @property
    def num_tokens(self) -> int:
        """Patch tokens of the whole grid."""
        return self.grid[0] * self.grid[1]


@dataclass(frozen=True)
class PlannedStep:
    """One step of a plan, or a probe (`num_kept` equal to `num_alive`: score, drop nothing).

    Attributes:
        location: Stage, block and phase.
        name: The location in parameter names: `0_3`, or `0_3_ffn` between attention and feed-forward.
        num_alive: Number of input patch tokens.
        num_kept: Number of output patch tokens, or of positions on the slow path.
        scorer: Name of the scorer that ranks the tokens; None if they are not ranked.
        learned: Whether the scorer has parameters.
        num_layers: Layers whose statistics the scorer reads.
        reducer: Determines what happens to tokens that are not kept.
    """

    location: LocationKey
    name: str
    num_alive: int
    num_kept: int
    scorer: str | None
    learned: bool
    num_layers: int = 0
    reducer: Reducer = field(default_factory=Prune)

    @classmethod
    def of(cls, step: ResolvedStep, *, name: str, scorer: str | None) -> PlannedStep:
        """Create the planned step of a resolved step."""
        return cls(
            location=(step.stage, step.block, step.phase),
            name=name,
            num_alive=step.num_before,
            num_kept=step.num_tokens,
            scorer=scorer,
            learned=is_learned(step.scorer),
            num_layers=step.num_layers,
            reducer=step.reducer,
        )

    @property
    def stage(self) -> int:
        """Stage of the step."""
        return self.location[0]


@dataclass(frozen=True)
class Plan:
    """How a sparse model runs; built by `set_schedule_`, and constant during a call.

    Attributes:
        stages: The tokens of each stage.
        steps: Active steps, in order of execution.
        probes: The learned scorers of all attached locations, to score without dropping tokens.
        captures: What the attention of a block must record for the steps; blocks that record nothing are left out.
        probe_captures: The same for steps and probes.
        fast_paths: Blocks in which some positions take a fast path, with its name; None for the identity.
        tracks_positions: Whether the position of each remaining token is needed, even if nothing is recorded.
        forgets_statistics: Whether no step reads statistics from before the previous step.
        counts_size: Whether to track the number of patches that each token represents.
        weighs_attention: Whether attention weights tokens by that number.
    """

    stages: tuple[StageTokens, ...] = ()
    steps: tuple[PlannedStep, ...] = ()
    probes: tuple[PlannedStep, ...] = ()
    captures: tuple[tuple[int, Captures], ...] = ()
    probe_captures: tuple[tuple[int, Captures], ...] = ()
    fast_paths: tuple[tuple[Block, str | None], ...] = ()
    tracks_positions: bool = False
    forgets_statistics: bool = True
    counts_size: bool = False
    weighs_attention: bool = False

    def steps_at(self, location: LocationKey, *, probe: bool = False) -> tuple[PlannedStep, ...]:
        """The steps at a location, in order, after its probes if there are to be any."""
        steps = tuple(step for step in self.steps if step.location == location)
        if not probe:
            return steps
        running = [step.name for step in steps]
        return (*(p for p in self.probes if p.location == location and p.name not in running), *steps)

    def captures_of(self, block: int, *, probe: bool = False) -> Captures | None:
        """What the attention of a block must record; None for nothing."""
        for index, captures in self.probe_captures if probe else self.captures:
            if index == block:
                return captures
        return None

    def before(self, blocks: Collection[Block]) -> Plan:
        """The part of the plan that takes effect in some blocks, which must be the first ones.

        Two plans with equal parts leave the same tokens after these blocks.
        """
        steps = tuple(step for step in self.steps if step.location[:2] in blocks)
        captures = tuple((block, captures) for block, captures in self.captures if (0, block) in blocks)
        if not steps:
            return Plan(stages=self.stages, captures=captures)
        fast_paths = tuple((block, name) for block, name in self.fast_paths if block in blocks)
        return replace(self, steps=steps, captures=captures, fast_paths=fast_paths, probes=(), probe_captures=())

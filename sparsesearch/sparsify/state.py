"""What the blocks of one sparse model share: how to choose tokens, which steps there are, and what happened last.

Shapes: `B` batch, `P` prefix tokens, `N` tokens, `K` kept tokens, `C` channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule import Phase
from sparsesearch.sparsify.scorers import TokenScorer
from sparsesearch.sparsify.tokens import gather_tokens, gumbel_keep, select_tokens

Mode = Literal["gather", "masked"]
Place = tuple[int, Phase]


@dataclass(frozen=True, eq=False)
class PlannedStep:
    """One step of the schedule in force, or a probe (`num_kept` equal to `num_alive`: score, drop nothing).

    Attributes:
        name: The place as it stands in parameter names: `0_3`, or `0_3_ffn` between attention and feed-forward.
        num_alive: Patch tokens that arrive.
        num_kept: Patch tokens that go on.
        scorer: What ranks them.
        learned: Whether the scorer has parameters.
    """

    name: str
    num_alive: int
    num_kept: int
    scorer: TokenScorer
    learned: bool


@dataclass(frozen=True, eq=False)
class StepTrace:
    """What one scorer said and what came of it, in the last forward pass.

    Attributes:
        name: The place, as in `PlannedStep`.
        scores_BN2: Scores of the tokens that arrived; log-probabilities (keep in column 0) for a learned scorer. In
            masked mode all initial tokens, dropped ones included.
        positions_BN: Raster index in the initial grid of each token that arrived.
        kept_BK: Raster indices of the tokens that went on, best first; None for a probe and in masked mode.
        decision_BN: Cumulative 0/1 decision over all initial tokens, with its straight-through gradient; masked mode
            only.
        learned: Whether the scorer has parameters.
    """

    name: str
    scores_BN2: Tensor
    positions_BN: Tensor
    kept_BK: Tensor | None
    decision_BN: Tensor | None
    learned: bool

    @property
    def keep_log_prob_BN(self) -> Tensor:
        """Log-probability of keeping each token that arrived."""
        return self.scores_BN2[..., 0]

    @property
    def score_BN(self) -> Tensor:
        """What tokens are ranked by: log-odds of keeping, or a control's score."""
        return self.scores_BN2[..., 0] - self.scores_BN2[..., 1]


@dataclass
class Trace:
    """The last forward pass: what it left to read, and where it stands while it runs.

    A copy of a model starts with an empty trace.

    Attributes:
        steps: Every scoring, in order of execution.
        final_tokens_BNC: Patch tokens behind the backbone's last norm, if asked for; all of them in masked mode.
        positions_BN: Raster index of each patch token still alive; None while all are there in raster order.
        decision_BN: Cumulative decision in masked mode; None before the first.
    """

    steps: list[StepTrace] = field(default_factory=list)
    final_tokens_BNC: Tensor | None = None
    positions_BN: Tensor | None = None
    decision_BN: Tensor | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Trace:
        """An empty trace: tensors with a history cannot be copied, and the copy has run nothing."""
        return Trace()

    def at(self, name: str) -> StepTrace:
        """The last scoring at a place.

        Raises:
            KeyError: Nothing was scored there.
        """
        for step in reversed(self.steps):
            if step.name == name:
                return step
        raise KeyError(name)


@dataclass
class SparsityState:
    """Settings and trace of one sparse model; every block of it holds this same object. Not thread-safe.

    Attributes:
        num_prefix_tokens: Class and register tokens, never dropped.
        num_tokens: Patch tokens of the initial grid.
        generator: Source of all noise of this model.
        mode: Training with tokens really gathered, or with a masked softmax (DynamicViT). Evaluation always gathers.
        noise: Scale of the logistic noise on scores in gathered training; 0 chooses the best-scored tokens.
        probe: Also score, without dropping anything, at every attached place that has no step of its own.
        record: Keep a trace of scores and indices. Turn off for export, where only the logits may leave the graph.
        keep_final_tokens: Also keep the final patch tokens in the trace.
        forced: Decisions by place that replace the random draw of masked training, `B x N` zeros and ones each, in
            raster order and before the product with the previous decision.
        plan: Steps in force, by block and phase. Replaced as a whole, never changed while a model runs.
        probes: Scorers of all attached places, by block and phase.
        trace: The last forward pass.
    """

    num_prefix_tokens: int
    num_tokens: int
    generator: torch.Generator
    mode: Mode = "gather"
    noise: float = 0.0
    probe: bool = False
    record: bool = True
    keep_final_tokens: bool = False
    forced: Mapping[str, Tensor] | None = None
    plan: Mapping[Place, tuple[PlannedStep, ...]] = field(default_factory=dict)
    probes: Mapping[Place, PlannedStep] = field(default_factory=dict)
    trace: Trace = field(default_factory=Trace)

    def begin(self) -> None:
        """Forget the last forward pass."""
        if self.mode not in ("gather", "masked"):
            raise BackboneError(f'no training mode {self.mode!r}; use "gather" or "masked"')
        self.trace = Trace()

    def masks(self, training: bool) -> bool:
        """Whether dropped tokens stay in the tensor and are masked out."""
        return training and self.mode == "masked" and bool(self.plan)

    def steps_at(self, place: Place) -> tuple[PlannedStep, ...]:
        """What runs at a place, in order."""
        steps = self.plan.get(place, ())
        probe = self.probes.get(place) if self.probe else None
        if probe is None or any(step.learned for step in steps):
            return steps
        return (probe, *steps)

    def visit(self, x_BNC: Tensor, *, place: Place, training: bool) -> Tensor:
        """Run the steps of one place.

        Args:
            x_BNC: Tokens, prefix tokens first.
            place: Block and phase.
            training: Whether the block is in training mode.

        Returns:
            The tokens that go on: fewer in gather mode, the same in masked mode.

        Raises:
            BackboneError: The number of tokens is not what the schedule was set for.
        """
        for step in self.steps_at(place):
            masked = self.masks(training)
            self._check_count(x_BNC, step.num_alive if not masked else self.num_tokens, step.name)
            patches_BNC = x_BNC[:, self.num_prefix_tokens :]
            scores_BN2 = step.scorer(
                patches_BNC, policy_BN=self.trace.decision_BN, positions_BN=self.trace.positions_BN
            )
            kept_BK = None
            if masked:
                if step.num_kept < step.num_alive:
                    self.trace.decision_BN = self._decide(step, scores_BN2)
            elif step.num_kept < step.num_alive:
                x_BNC, kept_BK = self._drop(step, x_BNC, scores_BN2, training=training)
            if self.record:
                self._note(step, scores_BN2, kept_BK)
            if kept_BK is not None and self._tracks_positions():
                self.trace.positions_BN = kept_BK
        return x_BNC

    def policy_BN(self, x_BNC: Tensor) -> Tensor:
        """The keep policy over all tokens, prefix included, in masked mode; all ones before the first decision."""
        ones = x_BNC.new_ones(x_BNC.shape[:2], dtype=torch.float32)
        if self.trace.decision_BN is None:
            return ones
        return torch.cat((ones[:, : self.num_prefix_tokens], self.trace.decision_BN), dim=1)

    def finish(self, x_BNC: Tensor) -> None:
        """Take note of the tokens behind the last norm, if asked for."""
        if self.keep_final_tokens:
            self.trace.final_tokens_BNC = x_BNC[:, self.num_prefix_tokens :]

    def _tracks_positions(self) -> bool:
        return self.record or any(not step.learned for steps in self.plan.values() for step in steps)

    def _check_count(self, x_BNC: Tensor, expected: int, name: str) -> None:
        found = x_BNC.shape[1] - self.num_prefix_tokens
        if found != expected:
            raise BackboneError(
                f"{found} patch tokens arrive at {name}, but the schedule was set for {expected}; "
                "build the model for the size of your images (image_size=...) and sparsify it again"
            )

    def _decide(self, step: PlannedStep, scores_BN2: Tensor) -> Tensor:
        """The cumulative 0/1 decision of masked training."""
        before_BN = self.trace.decision_BN
        forced_BN = None if self.forced is None else self.forced.get(step.name)
        if step.learned or forced_BN is not None:
            decision_BN = gumbel_keep(scores_BN2, generator=self.generator, forced_BN=forced_BN)
            return decision_BN if before_BN is None else decision_BN * before_BN
        score_BN = scores_BN2[..., 0] - scores_BN2[..., 1]
        if before_BN is not None:
            score_BN = score_BN.masked_fill(before_BN < 0.5, -torch.inf)
        kept_BK = select_tokens(score_BN, step.num_kept)
        return torch.zeros_like(score_BN).scatter_(1, kept_BK, 1.0)

    def _drop(self, step: PlannedStep, x_BNC: Tensor, scores_BN2: Tensor, *, training: bool) -> tuple[Tensor, Tensor]:
        """The tokens that go on, and their raster indices in the initial grid."""
        if training and self.forced is not None:
            raise ScheduleError('forced decisions work in masked training only; set mode="masked", or forced=None')
        noise = self.noise if training and step.learned else 0.0
        score_BN = scores_BN2[..., 0] - scores_BN2[..., 1]
        index_BK = select_tokens(score_BN, step.num_kept, noise=noise, generator=self.generator)
        prefix_P = torch.arange(self.num_prefix_tokens, device=index_BK.device)
        with_prefix_BK = torch.cat((prefix_P.expand(index_BK.shape[0], -1), index_BK + self.num_prefix_tokens), dim=1)
        positions_BN = self.trace.positions_BN
        kept_BK = index_BK if positions_BN is None else positions_BN.gather(1, index_BK)
        return gather_tokens(x_BNC, with_prefix_BK), kept_BK

    def _note(self, step: PlannedStep, scores_BN2: Tensor, kept_BK: Tensor | None) -> None:
        positions_BN = self.trace.positions_BN
        if positions_BN is None:
            raster_N = torch.arange(self.num_tokens, device=scores_BN2.device)
            positions_BN = raster_N.expand(scores_BN2.shape[0], -1)
        self.trace.steps.append(
            StepTrace(
                name=step.name,
                scores_BN2=scores_BN2,
                positions_BN=positions_BN,
                kept_BK=kept_BK,
                decision_BN=self.trace.decision_BN,
                learned=step.learned,
            )
        )

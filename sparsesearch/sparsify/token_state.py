"""How tokens fare on their way through an isotropic model: scored, reduced, and kept account of.

Shapes: `B` batch, `P` prefix tokens, `N` patch tokens, `K` kept tokens, `T` tokens incl. prefix, `C` channels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule.methods import Fuse, Merge, Prune
from sparsesearch.sparsify.attention import NOTHING_NOTED, Attended, Captures, LayerStatistics, Notes
from sparsesearch.sparsify.gather import gather_tokens, gumbel_keep, noisy_scores, select_tokens
from sparsesearch.sparsify.reductions import GONE, Pruned, Reduction, fuse, merge, prune
from sparsesearch.sparsify.scorers import Seen
from sparsesearch.sparsify.state import Place, PlannedStep, SparsityState, Trace
from sparsesearch.sparsify.trace import StepTrace


@dataclass
class TokenTrace(Trace):
    """The last forward pass of an isotropic model, and where it stands while it runs.

    Attributes:
        positions_BN: Raster index of each patch token still alive, -1 for a fused one; None while all are there in
            raster order.
        size_BN: How many patches each patch token stands for; None while each stands for itself, or if nobody asks.
        decision_BN: Cumulative decision in masked mode; None before the first.
        notes: What the last attention told.
        statistics: SPOT's statistics of the layers so far that a later step may read.
        rope_BHND: Rotary embeddings gathered for the tokens still alive.
        groups_BN: For each patch of the initial grid the token that stands for it, -1 for none; None while each stands
            for itself, or if nobody asks.
    """

    positions_BN: Tensor | None = None
    size_BN: Tensor | None = None
    decision_BN: Tensor | None = None
    notes: Notes = NOTHING_NOTED
    statistics: tuple[LayerStatistics, ...] = ()
    rope_BHND: Tensor | None = None
    groups_BN: Tensor | None = None


@dataclass(kw_only=True)
class TokenState(SparsityState):
    """State of an isotropic model.

    Attributes:
        num_prefix_tokens: Class and register tokens, never dropped.
        num_tokens: Patch tokens of the initial grid.
        has_class_token: Whether the first prefix token is a class token.
        has_rope: Whether attention needs the position of each token.
        captures: What the plan wants of the attention of each block.
        probe_captures: The same with all probes.
        forgets_statistics: Whether no step reads statistics older than the step before it.
        counts_size: Whether account is kept of the patches that each token stands for.
        weighs_attention: Whether attention weighs tokens by that number.
        keep_groups: Also note in the trace which patches each token stands for; needs `record`.
        listener: Is told what each attention layer notes.
        trace: The last forward pass.
    """

    num_prefix_tokens: int
    num_tokens: int
    has_class_token: bool = True
    has_rope: bool = False
    captures: Mapping[int, Captures] = field(default_factory=dict)
    probe_captures: Mapping[int, Captures] = field(default_factory=dict)
    forgets_statistics: bool = True
    counts_size: bool = False
    weighs_attention: bool = False
    keep_groups: bool = False
    listener: Callable[[Notes], None] | None = None
    trace: TokenTrace = field(default_factory=TokenTrace)

    def captures_of(self, block: int) -> Captures | None:
        """What is wanted of the attention of a block; None for nothing."""
        return (self.probe_captures if self.probe else self.captures).get(block)

    def note(self, attended: Attended) -> None:
        """Take note of what an attention layer told."""
        self.trace.notes = attended.notes
        if self.listener is not None:
            self.listener(attended.notes)
        if attended.statistics is not None:
            self.trace.statistics = (*self.trace.statistics, attended.statistics)

    def visit(self, x_BTC: Tensor, *, place: Place, training: bool) -> Tensor:
        """Run the steps of one place.

        Args:
            x_BTC: Tokens, prefix tokens first.
            place: Stage, block and phase.
            training: Whether the block is in training mode.

        Returns:
            The tokens that go on: fewer in gather mode, the same in masked mode.

        Raises:
            BackboneError: The number of tokens is not what the schedule was set for.
        """
        for step in self.steps_at(place):
            masked = self.masks(training)
            self._check_count(x_BTC, self.num_tokens if masked else step.num_alive, step.name)
            scores_BN2 = None if step.scorer is None else step.scorer(self._patches(x_BTC), self._seen(step))
            reduction = None
            if step.num_kept < step.num_alive:
                if masked:
                    assert scores_BN2 is not None
                    self.trace.decision_BN = self._decide(step, scores_BN2)
                else:
                    reduction = self._reduction(step, x_BTC, scores_BN2, training=training)
            if self.record:
                self._record(step, self._patches(x_BTC), scores_BN2, reduction)
            if reduction is not None:
                x_BTC = self._carry(reduction, x_BTC)
        return x_BTC

    def policy_BT(self, x_BTC: Tensor) -> Tensor:
        """The keep policy over all tokens, prefix included, in masked mode; all ones before the first decision."""
        ones = x_BTC.new_ones(x_BTC.shape[:2], dtype=torch.float32)
        if self.trace.decision_BN is None:
            return ones
        return torch.cat((ones[:, : self.num_prefix_tokens], self.trace.decision_BN), dim=1)

    def size_BT(self) -> Tensor | None:
        """How many patches each token stands for, 1 for prefix tokens; None if all stand for themselves."""
        size_BN = self.trace.size_BN
        if size_BN is None:
            return None
        return torch.cat((size_BN.new_ones((size_BN.shape[0], self.num_prefix_tokens)), size_BN), dim=1)

    def rope(self, rope: Tensor, *, shared: bool) -> Tensor:
        """Rotary embeddings for the tokens still alive; a fused token is not rotated.

        Args:
            rope: Sines, then cosines, of all initial positions: `N x D`, or `H x N x D`.
            shared: Whether all blocks have the same; then it is gathered once for each reduction.
        """
        positions_BN = self.trace.positions_BN
        if positions_BN is None:
            return rope
        if shared and self.trace.rope_BHND is not None:
            return self.trace.rope_BHND
        half = rope.shape[-1] // 2
        still = torch.cat((rope.new_zeros(half), rope.new_ones(half))).expand(*rope.shape[:-2], 1, -1)
        table = torch.cat((rope, still), dim=-2)
        gathered = table[positions_BN].unsqueeze(1) if rope.ndim == 2 else table[:, positions_BN].transpose(0, 1)
        if shared:
            self.trace.rope_BHND = gathered
        return gathered

    def finish(self, x_BTC: Tensor) -> None:
        """Take note of the tokens behind the last norm, if asked for."""
        if self.keep_final_tokens:
            self.trace.final_tokens_BNC = self._patches(x_BTC)

    def _patches(self, x_BTC: Tensor) -> Tensor:
        return x_BTC[:, self.num_prefix_tokens :]

    def _seen(self, step: PlannedStep) -> Seen:
        statistics = self.trace.statistics
        if len(statistics) < step.num_layers:
            raise BackboneError(
                f"{step.name} reads the statistics of {step.num_layers} attention layers, {len(statistics)} are there; "
                "run the model from its first block"
            )
        return Seen(
            policy_BN=self.trace.decision_BN,
            positions_BN=self.trace.positions_BN,
            notes=self.trace.notes,
            statistics=statistics[len(statistics) - step.num_layers :],
        )

    def _check_count(self, x_BTC: Tensor, expected: int, name: str) -> None:
        found = x_BTC.shape[1] - self.num_prefix_tokens
        if found != expected:
            raise BackboneError(
                f"{found} patch tokens arrive at {name}, but the schedule was set for {expected}; "
                "build the model for the size of your images (image_size=...) and sparsify it again"
            )

    def _decide(self, step: PlannedStep, scores_BN2: Tensor) -> Tensor:
        """The cumulative 0/1 decision of masked training."""
        if not isinstance(step.reducer, Prune):
            raise ScheduleError(f'masked training can only prune, not {step.reducer.kind}; train with mode="gather"')
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

    def _reduction(self, step: PlannedStep, x_BTC: Tensor, scores_BN2: Tensor | None, *, training: bool) -> Reduction:
        """Which tokens go on."""
        if training and self.forced is not None:
            raise ScheduleError('forced decisions work in masked training only; set mode="masked", or forced=None')
        if scores_BN2 is None:
            return self._merge(step, x_BTC)
        score_BN = scores_BN2[..., 0] - scores_BN2[..., 1]
        if training and step.learned and self.noise:
            score_BN = noisy_scores(score_BN, scale=self.noise, generator=self.generator)
        if isinstance(step.reducer, Fuse):
            weight_BN = scores_BN2[..., 0].exp() if step.learned else scores_BN2[..., 0].clamp_min(0.0)
            return fuse(score_BN, weight_BN, step.num_kept, normalize=step.reducer.normalize)
        return prune(score_BN, step.num_kept)

    def _merge(self, step: PlannedStep, x_BTC: Tensor) -> Reduction:
        assert isinstance(step.reducer, Merge)
        metric_BNC = self.trace.notes.keys_BND if step.reducer.metric == "keys" else self._patches(x_BTC)
        assert metric_BNC is not None, "the last attention was not asked"
        size_BN = self.trace.size_BN
        if size_BN is None:
            size_BN = x_BTC.new_ones((x_BTC.shape[0], step.num_alive), dtype=torch.float32)
        return merge(metric_BNC, size_BN, step.num_kept)

    def _carry(self, reduction: Reduction, x_BTC: Tensor) -> Tensor:
        """Everything that is kept of tokens, for those that go on."""
        trace = self.trace
        patches_BNC = self._patches(x_BTC)
        if self.counts_size:
            size_BN = trace.size_BN
            if size_BN is None:
                size_BN = x_BTC.new_ones(patches_BNC.shape[:2], dtype=torch.float32)
            trace.size_BN = reduction.total(size_BN)
        if self.tracks_positions:
            trace.positions_BN = reduction.positions(self._positions(patches_BNC))
        trace.rope_BHND = None
        trace.notes = trace.notes.carried(reduction)
        if self.forgets_statistics:
            trace.statistics = ()
        else:
            trace.statistics = tuple(
                LayerStatistics(
                    reduction.average(layer.values_BNHF.flatten(2)).reshape(
                        layer.values_BNHF.shape[0], -1, *layer.values_BNHF.shape[2:]
                    ),
                    layer.bessel_B,
                )
                for layer in trace.statistics
            )
        prefix = self.num_prefix_tokens
        if isinstance(reduction, Pruned):  # one gather for all
            prefix_BP = torch.arange(prefix, device=x_BTC.device).expand(x_BTC.shape[0], -1)
            return gather_tokens(x_BTC, torch.cat((prefix_BP, reduction.index_BK + prefix), dim=1))
        return torch.cat((x_BTC[:, :prefix], reduction.average(patches_BNC)), dim=1)

    @property
    def tracks_positions(self) -> bool:
        """Whether account is kept of where each token comes from."""
        return self.record or self.has_rope or any(not step.learned for steps in self.plan.values() for step in steps)

    def _positions(self, patches_BNC: Tensor) -> Tensor:
        if self.trace.positions_BN is not None:
            return self.trace.positions_BN
        raster_N = torch.arange(self.num_tokens, device=patches_BNC.device)
        return raster_N.expand(patches_BNC.shape[0], -1)

    def _record(
        self, step: PlannedStep, patches_BNC: Tensor, scores_BN2: Tensor | None, reduction: Reduction | None
    ) -> None:
        positions_BN = self._positions(patches_BNC)
        if self.keep_groups and reduction is not None:
            self.trace.groups_BN = self._regrouped(reduction, patches_BNC)
        self.trace.steps.append(
            StepTrace(
                name=step.name,
                scores_BN2=scores_BN2,
                positions_BN=positions_BN,
                kept_BK=None if reduction is None else reduction.positions(positions_BN),
                decision_BN=self.trace.decision_BN,
                learned=step.learned,
                groups_BN=self.trace.groups_BN,
                stage=step.stage,
            )
        )

    def _regrouped(self, reduction: Reduction, patches_BNC: Tensor) -> Tensor:
        """Which token stands for each initial patch behind a reduction."""
        destinations_BN = reduction.destinations(patches_BNC.shape[1])
        groups_BN = self.trace.groups_BN
        if groups_BN is None:
            return destinations_BN
        return destinations_BN.gather(1, groups_BN.clamp_min(0)).masked_fill(groups_BN == GONE, GONE)

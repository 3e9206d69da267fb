"""One forward pass of an isotropic model: scores, reductions and bookkeeping of its tokens.

Shapes: `B` batch, `P` prefix tokens, `N` patch tokens, `K` kept tokens, `T` tokens incl. prefix, `C` channels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.schedule.methods import Fuse, Merge, Prune
from sparsesearch.sparsify.attention import Attended, AttentionRequest, Captures, LayerStatistics, Notes
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.gather import gather_tokens, gumbel_keep, keep_count, noisy_scores, select_tokens
from sparsesearch.sparsify.model_plan import LocationKey, PlannedStep
from sparsesearch.sparsify.reductions import GONE, Fused, Pruned, Reduction, fuse, merge, prune
from sparsesearch.sparsify.scorers import Seen
from sparsesearch.sparsify.teaching import taught
from sparsesearch.sparsify.token_trace import TokenTrace
from sparsesearch.sparsify.trace import StepTrace

_NOTHING = Captures()


class TokenCall(Call):
    """One forward pass of an isotropic model; arguments and attributes as in `Call`.

    Attributes:
        listener: Called with the records of each attention layer, if set.
    """

    trace: TokenTrace
    listener: Callable[[Notes], None] | None = None

    def _new_trace(self) -> TokenTrace:
        return TokenTrace()

    @property
    def num_prefix_tokens(self) -> int:
        """Class and register tokens, never dropped."""
        return self.plan.stages[0].num_prefix_tokens

    @property
    def num_tokens(self) -> int:
        """Patch tokens of the initial grid."""
        return self.plan.stages[0].num_tokens

    def captures_of(self, block: int) -> Captures | None:
        """What the attention of a block must record; None for nothing."""
        return self.plan.captures_of(block, probe=self.options.probe)

    def request(self, block: int, x_BTC: Tensor) -> AttentionRequest | None:
        """What the attention of a block must do; None for plain attention.

        Args:
            block: Index of the block.
            x_BTC: Its input, after the steps before it.
        """
        captures = self.captures_of(block)
        size_BT = self.size_BT() if self.plan.weighs_attention else None
        if captures is None and size_BT is None and not self.masked:
            return None
        policy_BT = self.policy_BT(x_BTC) if self.masked else None
        return AttentionRequest(
            captures=captures or _NOTHING,
            size_BT=size_BT,
            policy_BT=policy_BT,
            num_prefix_tokens=self.num_prefix_tokens,
            has_class_token=self.plan.stages[0].has_class_token,
            note=self._note,
        )

    def _note(self, attended: Attended) -> None:
        """Store the records of an attention layer."""
        self.trace.notes = attended.notes
        if self.listener is not None:
            self.listener(attended.notes)
        if attended.statistics is not None:
            self.trace.statistics = (*self.trace.statistics, attended.statistics)

    def visit(self, x_BTC: Tensor, *, location: LocationKey) -> Tensor:
        """Run the steps of one location.

        Args:
            x_BTC: Tokens, prefix tokens first.
            location: Stage, block and phase.

        Returns:
            The output tokens: fewer in gather mode, the same in masked mode.

        Raises:
            BackboneError: The number of tokens differs from that of the schedule.
        """
        for step in self.steps_at(location):
            self._check_count(x_BTC, self.num_tokens if self.masked else step.num_alive, step.name)
            scores_BN2 = self._scores(step, x_BTC)
            reduction = None
            if step.num_kept < step.num_alive:
                if self.masked:
                    assert scores_BN2 is not None
                    self.trace.decision_BN = self._decide(step, scores_BN2)
                else:
                    reduction = self._reduction(step, x_BTC, scores_BN2)
            if self.options.record:
                self._record(step, self._patches(x_BTC), scores_BN2, reduction)
            if reduction is not None:
                x_BTC = self._carry(reduction, x_BTC)
            if self.teaches and step.learned:
                x_BTC = self._taught(x_BTC, scores_BN2, reduction)
        return x_BTC

    def policy_BT(self, x_BTC: Tensor) -> Tensor:
        """The keep policy over all tokens, prefix included, in masked mode; all ones before the first decision."""
        ones = x_BTC.new_ones(x_BTC.shape[:2], dtype=torch.float32)
        if self.trace.decision_BN is None:
            return ones
        return torch.cat((ones[:, : self.num_prefix_tokens], self.trace.decision_BN), dim=1)

    def size_BT(self) -> Tensor | None:
        """Number of patches that each token represents, 1 for prefix tokens; None if it is 1 for all."""
        size_BN = self.trace.size_BN
        if size_BN is None:
            return None
        return torch.cat((size_BN.new_ones((size_BN.shape[0], self.num_prefix_tokens)), size_BN), dim=1)

    def rope(self, rope: Tensor, *, shared: bool) -> Tensor:
        """Rotary embeddings of the remaining tokens; a fused token is not rotated.

        Args:
            rope: Sines, then cosines, of all initial positions: `N x D`, or `H x N x D`.
            shared: Whether all blocks have the same embeddings, which are then gathered once per reduction.
        """
        positions_BN = self.trace.positions_BN
        if positions_BN is None:
            return rope
        if shared and self.trace.rope_BHND is not None:
            return self.trace.rope_BHND
        half = rope.shape[-1] // 2
        identity = torch.cat((rope.new_zeros(half), rope.new_ones(half))).expand(*rope.shape[:-2], 1, -1)
        table = torch.cat((rope, identity), dim=-2)
        gathered = table[positions_BN].unsqueeze(1) if rope.ndim == 2 else table[:, positions_BN].transpose(0, 1)
        if shared:
            self.trace.rope_BHND = gathered
        return gathered

    def finish(self, x_BTC: Tensor) -> None:
        """End the pass.

        Args:
            x_BTC: Tokens after the last norm.
        """
        if self.options.keep_final_tokens:
            self.trace.final_tokens_BNC = self._patches(x_BTC)
        self._publish()

    def _taught(self, x_BTC: Tensor, scores_BN2: Tensor | None, reduction: Reduction | None) -> Tensor:
        """The tokens after a step; their gradient teaches the scores of those that were kept."""
        assert scores_BN2 is not None, "a learned scorer ranks tokens"
        score_BN = scores_BN2[..., 0] - scores_BN2[..., 1]
        if isinstance(reduction, Pruned | Fused):
            score_BN = score_BN.gather(1, reduction.index_BK)
        return taught(x_BTC, score_BN, first=self.num_prefix_tokens)

    def _patches(self, x_BTC: Tensor) -> Tensor:
        return x_BTC[:, self.num_prefix_tokens :]

    def _scores(self, step: PlannedStep, x_BTC: Tensor) -> Tensor | None:
        if step.scorer is None:
            return None
        return self.parts.scorer(step)(self._patches(x_BTC), self._seen(step))

    def _seen(self, step: PlannedStep) -> Seen:
        statistics = self.trace.statistics
        if len(statistics) < step.num_layers:
            raise BackboneError(
                f"{step.name} reads the statistics of {step.num_layers} attention layers, but only {len(statistics)} "
                "are available; run the model from its first block"
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
                f"there are {found} patch tokens at {name}, but the schedule was set for {expected}; "
                "build the model for the size of your images (image_size=...) and sparsify it again"
            )

    def _decide(self, step: PlannedStep, scores_BN2: Tensor) -> Tensor:
        """The cumulative 0/1 decision of masked training."""
        if not isinstance(step.reducer, Prune):
            raise ScheduleError(f'masked training does not support {step.reducer.kind}; use mode="gather"')
        before_BN = self.trace.decision_BN
        score_BN = scores_BN2[..., 0] - scores_BN2[..., 1]
        if self.options.counts is not None:
            return keep_count(score_BN, self.options.counts[step.name], before_BN)
        forced_BN = None if self.options.forced is None else self.options.forced.get(step.name)
        if step.learned or forced_BN is not None:
            decision_BN = gumbel_keep(scores_BN2, generator=self.options.generator, forced_BN=forced_BN)
            return decision_BN if before_BN is None else decision_BN * before_BN
        if before_BN is not None:
            score_BN = score_BN.masked_fill(before_BN < 0.5, -torch.inf)
        kept_BK = select_tokens(score_BN, step.num_kept)
        return torch.zeros_like(score_BN).scatter_(1, kept_BK, 1.0)

    def _reduction(self, step: PlannedStep, x_BTC: Tensor, scores_BN2: Tensor | None) -> Reduction:
        """The reduction of a step."""
        if self.training and self.options.forced is not None:
            raise ScheduleError('forced decisions require masked training; set mode="masked", or forced=None')
        if scores_BN2 is None:
            return self._merge(step, x_BTC)
        score_BN = scores_BN2[..., 0] - scores_BN2[..., 1]
        if self.training and step.learned and self.options.noise:
            score_BN = noisy_scores(score_BN, scale=self.options.noise, generator=self.options.generator)
        if isinstance(step.reducer, Fuse):
            weight_BN = scores_BN2[..., 0].exp() if step.learned else scores_BN2[..., 0].clamp_min(0.0)
            return fuse(score_BN, weight_BN, step.num_kept, normalize=step.reducer.normalize)
        return prune(score_BN, step.num_kept)

    def _merge(self, step: PlannedStep, x_BTC: Tensor) -> Reduction:
        assert isinstance(step.reducer, Merge)
        metric_BNC = self.trace.notes.keys_BND if step.reducer.metric == "keys" else self._patches(x_BTC)
        assert metric_BNC is not None, "the last attention layer did not record it"
        size_BN = self.trace.size_BN
        if size_BN is None:
            size_BN = x_BTC.new_ones((x_BTC.shape[0], step.num_alive), dtype=torch.float32)
        return merge(metric_BNC, size_BN, step.num_kept, num_prefix_tokens=self.num_prefix_tokens)

    def _carry(self, reduction: Reduction, x_BTC: Tensor) -> Tensor:
        """Apply a reduction to the tokens and to everything that is stored per token."""
        trace = self.trace
        patches_BNC = self._patches(x_BTC)
        if self.plan.counts_size:
            size_BN = trace.size_BN
            if size_BN is None:
                size_BN = x_BTC.new_ones(patches_BNC.shape[:2], dtype=torch.float32)
            trace.size_BN = reduction.total(size_BN)
        if self.options.record or self.plan.tracks_positions:
            trace.positions_BN = reduction.positions(self._positions(patches_BNC))
        trace.rope_BHND = None
        trace.notes = trace.notes.carried(reduction)
        if self.plan.forgets_statistics:
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

    def _positions(self, patches_BNC: Tensor) -> Tensor:
        if self.trace.positions_BN is not None:
            return self.trace.positions_BN
        raster_N = torch.arange(self.num_tokens, device=patches_BNC.device)
        return raster_N.expand(patches_BNC.shape[0], -1)

    def _record(
        self, step: PlannedStep, patches_BNC: Tensor, scores_BN2: Tensor | None, reduction: Reduction | None
    ) -> None:
        positions_BN = self._positions(patches_BNC)
        if self.options.keep_groups and reduction is not None:
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
        """The token that represents each initial patch after a reduction."""
        destinations_BN = reduction.destinations(patches_BNC.shape[1])
        groups_BN = self.trace.groups_BN
        if groups_BN is None:
            return destinations_BN
        return destinations_BN.gather(1, groups_BN.clamp_min(0)).masked_fill(groups_BN == GONE, GONE)

"""One forward pass of a hierarchical model: which path each position takes in each stage.

Shapes: `B` batch, `H` and `W` height and width of a stage's grid, `N` its positions in raster order, `C` channels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.gather import divide_tokens, gumbel_keep, keep_count, noisy_scores, select_tokens
from sparsesearch.sparsify.model_plan import Block, LocationKey, PlannedStep
from sparsesearch.sparsify.paths import Split
from sparsesearch.sparsify.scorers import Seen
from sparsesearch.sparsify.teaching import taught
from sparsesearch.sparsify.trace import StepTrace, Trace

Pair = tuple[Tensor, Tensor]
"""The feature maps of both paths in masked mode, `B x H x W x C` each, slow first."""

_NOTHING_SEEN = Seen()


@dataclass
class GridTrace(Trace):
    """Trace of a forward pass of a hierarchical model.

    Attributes:
        split: Path of each position after the last step of the current stage; None while all take the slow path.
        mask_BN: The same in masked mode: 1 on the slow path.
        pair: In masked mode the feature maps of both paths, slow first; None while there is only one.
    """

    split: Split | None = None
    mask_BN: Tensor | None = None
    pair: Pair | None = None

    def forget_paths(self) -> None:
        """Send all positions to the slow path again."""
        self.split = self.mask_BN = self.pair = None


def merge(pair: Pair, mask_BN: Tensor) -> Tensor:
    """Merge the feature maps of both paths in masked mode, each position from its path.

    Args:
        pair: The feature maps of both paths.
        mask_BN: 1 on the slow path.
    """
    slow_BHWC, fast_BHWC = pair
    mask_BHW1 = mask_BN.to(slow_BHWC.dtype).reshape(*slow_BHWC.shape[:3], 1)
    return slow_BHWC * mask_BHW1 + fast_BHWC * (1.0 - mask_BHW1)


class GridCall(Call):
    """One forward pass of a hierarchical model; arguments and attributes as in `Call`."""

    trace: GridTrace

    def _new_trace(self) -> GridTrace:
        return GridTrace()

    def has_paths(self, block: Block) -> bool:
        """Whether some positions take a fast path in a block."""
        return any(block == other for other, _ in self.plan.fast_paths)

    def fast_path(self, block: Block) -> nn.Module | None:
        """The fast path of a block that has one; None for the identity."""
        for other, name in self.plan.fast_paths:
            if other == block:
                return None if name is None else self.parts.fast_path(name)
        raise KeyError(block)

    def enter(self, block: Block, map_BHWC: Tensor) -> tuple[bool, Tensor]:
        """Run the steps before a block.

        Paths are reset before the first block of a stage.

        Args:
            block: Stage and block.
            map_BHWC: Input of the block; in masked mode merged with the current mask.

        Returns:
            Whether new paths were chosen, and the map.

        Raises:
            BackboneError: The grid differs from the one of the schedule.
        """
        if block[1] == 0:
            self.trace.forget_paths()
        location: LocationKey = (block[0], block[1], "before_block")
        planned = [step.name for step in self.plan.steps_at(location)]
        for step in self.steps_at(location):
            self._check_grid(map_BHWC, block, step.name)
            is_probe = step.name not in planned
            scores_BN2, kept_BK = None, None
            if is_probe or step.num_kept < step.num_alive:
                assert step.scorer is not None, "a fast path requires a scorer"
                scores_BN2 = self.parts.scorer(step)(map_BHWC.flatten(1, 2), _NOTHING_SEEN)
            if not is_probe:
                kept_BK = self._choose(step, scores_BN2)
            if self.options.record:
                self._record(step, map_BHWC, scores_BN2, kept_BK)
            if self.teaches and scores_BN2 is not None and step.learned:
                map_BHWC = taught(map_BHWC, scores_BN2[..., 0] - scores_BN2[..., 1])
        return bool(planned), map_BHWC

    def finish(self, final_BNC: Tensor | None) -> None:
        """End the pass, and release everything that only the blocks needed.

        Args:
            final_BNC: Positions after the last norm, if requested.
        """
        self.trace.forget_paths()
        self.trace.final_tokens_BNC = final_BNC
        self._publish()

    def _check_grid(self, map_BHWC: Tensor, block: Block, name: str) -> None:
        found, expected = tuple(map_BHWC.shape[1:3]), self.plan.stages[block[0]].grid
        if found != expected:
            raise BackboneError(
                f"the grid at {name} is {found[0]}x{found[1]}, but the schedule was set for "
                f"{expected[0]}x{expected[1]}; build the model for the size of your images (image_size=...) and "
                "sparsify it again"
            )

    def _choose(self, step: PlannedStep, scores_BN2: Tensor | None) -> Tensor | None:
        """Choose paths; returns the positions on the slow path, best first, or None if their number is not fixed."""
        trace = self.trace
        if scores_BN2 is None:
            trace.forget_paths()
            return None
        if self.masked:
            trace.mask_BN = self._decide(step, scores_BN2)
            return None
        if self.training and self.options.forced is not None:
            raise ScheduleError('forced decisions require masked training; set mode="masked", or forced=None')
        score_BN = (scores_BN2[..., 0] - scores_BN2[..., 1]).detach().float()
        if self.training and step.learned and self.options.noise:
            score_BN = noisy_scores(score_BN, scale=self.options.noise, generator=self.options.generator)
        kept_BK, rest_BM = divide_tokens(score_BN, step.num_kept)
        trace.split = Split.of(kept_BK, rest_BM)
        return kept_BK

    def _decide(self, step: PlannedStep, scores_BN2: Tensor) -> Tensor:
        """The 0/1 decision of masked training; a position may return to the slow path."""
        score_BN = scores_BN2[..., 0] - scores_BN2[..., 1]
        if self.options.counts is not None:
            return keep_count(score_BN, self.options.counts[step.name])
        forced_BN = None if self.options.forced is None else self.options.forced.get(step.name)
        if step.learned or forced_BN is not None:
            return gumbel_keep(scores_BN2, generator=self.options.generator, forced_BN=forced_BN)
        return torch.zeros_like(score_BN).scatter_(1, select_tokens(score_BN, step.num_kept), 1.0)

    def _record(self, step: PlannedStep, map_BHWC: Tensor, scores_BN2: Tensor | None, kept_BK: Tensor | None) -> None:
        batch, height, width = map_BHWC.shape[:3]
        raster_N = torch.arange(height * width, device=map_BHWC.device)
        self.trace.steps.append(
            StepTrace(
                name=step.name,
                scores_BN2=scores_BN2,
                positions_BN=raster_N.expand(batch, -1),
                kept_BK=kept_BK,
                decision_BN=self.trace.mask_BN,
                learned=step.learned,
                stage=step.stage,
            )
        )

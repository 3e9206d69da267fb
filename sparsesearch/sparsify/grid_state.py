"""State of a hierarchical model: which path each position takes in each stage.

Shapes: `B` batch, `H` and `W` height and width of a stage's grid, `N` its positions in raster order, `C` channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from sparsesearch.errors import BackboneError, ScheduleError
from sparsesearch.sparsify.gather import gumbel_keep, noisy_scores, select_tokens
from sparsesearch.sparsify.paths import Split
from sparsesearch.sparsify.scorers import Seen
from sparsesearch.sparsify.state import LocationKey, PlannedStep, SparsityState, Trace
from sparsesearch.sparsify.trace import StepTrace

Block = tuple[int, int]
"""Stage and block."""

Pair = tuple[Tensor, Tensor]
"""The feature maps of both paths in masked mode, `B x H x W x C` each, slow first."""

_NOTHING_SEEN = Seen()


@dataclass
class GridTrace(Trace):
    """Trace of the last or the current forward pass of a hierarchical model.

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


@dataclass(kw_only=True)
class GridState(SparsityState):
    """State of a hierarchical model.

    Attributes:
        grids: Height and width of each stage.
        paths: The fast path of each block in which some positions take it; None there for the identity.
        trace: The last forward pass.
    """

    grids: tuple[tuple[int, int], ...]
    paths: Mapping[Block, nn.Module | None] = field(default_factory=dict)
    trace: GridTrace = field(default_factory=GridTrace)

    def enter(self, block: Block, map_BHWC: Tensor, *, training: bool) -> bool:
        """Run the steps before a block.

        Paths are reset before the first block of the model or of a stage.

        Args:
            block: Stage and block.
            map_BHWC: Input of the block; in masked mode merged with the current mask.
            training: Whether the block is in training mode.

        Returns:
            Whether new paths were chosen.

        Raises:
            BackboneError: The grid differs from the one of the schedule.
        """
        if block == (0, 0):
            self.begin()
        elif block[1] == 0:
            self.trace.forget_paths()
        location: LocationKey = (block[0], block[1], "before_block")
        planned = self.plan.get(location, ())
        for step in self.steps_at(location):
            self._check_grid(map_BHWC, block, step.name)
            is_probe = all(step is not other for other in planned)
            scores_BN2, kept_BK = None, None
            if is_probe or step.num_kept < step.num_alive:
                assert step.scorer is not None, "a fast path requires a scorer"
                scores_BN2 = step.scorer(map_BHWC.flatten(1, 2), _NOTHING_SEEN)
            if not is_probe:
                kept_BK = self._choose(step, scores_BN2, training=training)
            if self.record:
                self._record(step, map_BHWC, scores_BN2, kept_BK)
        return bool(planned)

    def finish(self, final_BNC: Tensor | None) -> None:
        """End a forward pass, and release everything that only the blocks needed.

        Args:
            final_BNC: Positions after the last norm, if requested.
        """
        self.trace.forget_paths()
        self.trace.final_tokens_BNC = final_BNC

    def _check_grid(self, map_BHWC: Tensor, block: Block, name: str) -> None:
        found, expected = tuple(map_BHWC.shape[1:3]), self.grids[block[0]]
        if found != expected:
            raise BackboneError(
                f"the grid at {name} is {found[0]}x{found[1]}, but the schedule was set for "
                f"{expected[0]}x{expected[1]}; build the model for the size of your images (image_size=...) and "
                "sparsify it again"
            )

    def _choose(self, step: PlannedStep, scores_BN2: Tensor | None, *, training: bool) -> Tensor | None:
        """Choose paths; returns the positions on the slow path, best first, or None if their number is not fixed."""
        trace = self.trace
        if scores_BN2 is None:
            trace.forget_paths()
            return None
        if self.masks(training):
            trace.mask_BN = self._decide(step, scores_BN2)
            return None
        if training and self.forced is not None:
            raise ScheduleError('forced decisions require masked training; set mode="masked", or forced=None')
        score_BN = (scores_BN2[..., 0] - scores_BN2[..., 1]).detach().float()
        if training and step.learned and self.noise:
            score_BN = noisy_scores(score_BN, scale=self.noise, generator=self.generator)
        order_BN = score_BN.argsort(dim=1, descending=True)
        trace.split = Split.of(order_BN, step.num_kept)
        return order_BN[:, : step.num_kept]

    def _decide(self, step: PlannedStep, scores_BN2: Tensor) -> Tensor:
        """The 0/1 decision of masked training; a position may return to the slow path."""
        forced_BN = None if self.forced is None else self.forced.get(step.name)
        if step.learned or forced_BN is not None:
            return gumbel_keep(scores_BN2, generator=self.generator, forced_BN=forced_BN)
        score_BN = scores_BN2[..., 0] - scores_BN2[..., 1]
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

"""What a forward pass of a sparse model leaves to read.

Shapes: `B` batch, `N` tokens that arrive, `K` tokens that go on, `C` channels; prefix tokens are never counted.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class StepTrace:
    """What one step did in the last forward pass.

    Attributes:
        name: The place as it stands in parameter names: `0_3` is before block 3 of stage 0.
        stage: Its stage.
        scores_BN2: Scores of the tokens that arrived; log-probabilities (keep in column 0) for a learned scorer. In
            masked mode all initial tokens, dropped ones included. None where nothing was ranked (merge).
        positions_BN: Raster index in the initial grid of each token that arrived, -1 for a fused one.
        kept_BK: The same of the tokens that went on, best first; None for a probe and in masked mode.
        decision_BN: 0/1 decision over all initial tokens, with its straight-through gradient; masked mode only. For
            tokens it is cumulative.
        learned: Whether the scorer has parameters.
        groups_BN: For each patch of the initial grid the token behind this step that stands for it, an index into
            `kept_BK`, or -1 if it was dropped. None unless that is kept account of.
    """

    name: str
    scores_BN2: Tensor | None
    positions_BN: Tensor
    kept_BK: Tensor | None
    decision_BN: Tensor | None
    learned: bool
    groups_BN: Tensor | None = None
    stage: int = 0

    @property
    def score_BN(self) -> Tensor:
        """What tokens are ranked by: log-odds of keeping, or a control's score."""
        assert self.scores_BN2 is not None, "nothing was ranked"
        return self.scores_BN2[..., 0] - self.scores_BN2[..., 1]

"""Trace of the steps of a forward pass of a sparse model.

Shapes: `B` batch, `N` input tokens, `K` output tokens, `C` channels; prefix tokens are never counted.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True, eq=False)
class StepTrace:
    """Trace of one step of a forward pass.

    Attributes:
        name: The location in parameter names: `0_3` is before block 3 of stage 0.
        stage: Stage of the step.
        scores_BN2: Scores of the input tokens; log-probabilities (keep in column 0) for a learned scorer. In masked
            mode, these are all initial tokens, including dropped ones. None if tokens were not ranked (merge).
        positions_BN: Raster index in the initial grid of each input token, -1 for a fused one.
        kept_BK: The same for the output tokens, best first; None for a probe and in masked mode.
        decision_BN: 0/1 decision over all initial tokens, with its straight-through gradient; masked mode only.
            Cumulative for tokens.
        learned: Whether the scorer has parameters.
        groups_BN: For each patch of the initial grid, the token that represents it after this step, an index into
            `kept_BK`, or -1 if it was dropped. None if not tracked.
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
        """The value that tokens are ranked by: log-odds of keeping, or a control's score."""
        assert self.scores_BN2 is not None, "nothing was ranked"
        return self.scores_BN2[..., 0] - self.scores_BN2[..., 1]


@dataclass
class Trace:
    """Trace of one forward pass, complete when the pass has ended.

    Attributes:
        steps: Every step and probe, in order of execution.
        final_tokens_BNC: Patch tokens after the backbone's last norm, if requested.
    """

    steps: list[StepTrace] = field(default_factory=list)
    final_tokens_BNC: Tensor | None = None

    def at(self, name: str) -> StepTrace:
        """The last step at a location.

        Raises:
            KeyError: There was none.
        """
        for step in reversed(self.steps):
            if step.name == name:
                return step
        raise KeyError(name)

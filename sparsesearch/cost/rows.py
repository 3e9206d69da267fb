"""One row of a cost table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BlockCost:
    """What one part of a backbone costs one image.

    Attributes:
        name: `stem`, `block 0`, ..., `head`; `stage 2 block 0` where there are several stages.
        block: 0-based block inside its stage, None for what is no block.
        tokens_in: Tokens that enter, prefix tokens included.
        tokens_attention: Tokens that attention works on (fewer than `tokens_in` behind a `before_block` step).
        tokens_out: Tokens that leave.
        tokens_slow: Tokens that the feed-forward network works on; fewer than leave where there is a fast path.
        attention_macs: Multiply-adds of the exchange between tokens: attention, or the convolution in its place.
        mlp_macs: Multiply-adds of the feed-forward network.
        fast_path_macs: Multiply-adds of the fast path in its place.
        predictor_macs: Multiply-adds of the scorers at this block.
        matching_macs: Multiply-adds of reading attention for scores (class row) and of similarity for merging.
        other_macs: Multiply-adds of what is no block.
    """

    name: str
    block: int | None
    tokens_in: int
    tokens_attention: int
    tokens_out: int
    tokens_slow: int = 0
    attention_macs: int = 0
    mlp_macs: int = 0
    fast_path_macs: int = 0
    predictor_macs: int = 0
    matching_macs: int = 0
    other_macs: int = 0

    @property
    def macs(self) -> int:
        """Multiply-adds of the whole row."""
        return self.selection_macs + self.attention_macs + self.mlp_macs + self.fast_path_macs + self.other_macs

    @property
    def selection_macs(self) -> int:
        """Those spent on choosing tokens only; some papers leave them out of their counts."""
        return self.predictor_macs + self.matching_macs

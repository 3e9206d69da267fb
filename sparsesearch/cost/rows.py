"""One row of a cost table."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class BlockCost:
    """Cost per image of one part of a backbone.

    Attributes:
        name: `stem`, `block 0`, ..., `head`; `stage 2 block 0` with several stages.
        block: 0-based block inside its stage; None for other parts.
        tokens_in: Tokens that enter, including prefix tokens.
        tokens_attention: Tokens in attention (fewer than `tokens_in` after a `before_block` step).
        tokens_out: Tokens that leave.
        tokens_slow: Tokens in the feed-forward network; fewer than `tokens_out` with a fast path.
        attention_macs: Multiply-adds of the token mixer: attention, or the convolution that replaces it.
        mlp_macs: Multiply-adds of the feed-forward network.
        fast_path_macs: Multiply-adds of the fast path.
        predictor_macs: Multiply-adds of the scorers at this block.
        matching_macs: Multiply-adds of reading attention for scores (class row) and of similarity for merging.
        other_macs: Multiply-adds of parts that are not blocks.
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
        """Multiply-adds of token selection; some papers do not count them."""
        return self.predictor_macs + self.matching_macs

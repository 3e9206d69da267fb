"""The features after each block of a sparse ViT, on the whole grid: tokens are put back in their places.

Shapes: `B` batch, `T` tokens incl. prefix, `N` patches of the grid, `C` channels.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from sparsesearch.sparsify.reductions import GONE
from sparsesearch.sparsify.token_call import TokenCall


class TokensInPlace:
    """Runs the blocks of a call one by one; the features after each of them cover the whole grid.

    A patch that was fused or merged into a token has the features of this token. A patch whose token was dropped
    keeps the features that it had after the last block that it went through.

    Args:
        call: Must record groups, see `CallOptions.keep_groups`.

    Attributes:
        remaining_BTC: The tokens that remain after the last block that ran; None before the first.
    """

    def __init__(self, call: TokenCall) -> None:
        self._call = call
        self._whole_BTC: Tensor | None = None
        self.remaining_BTC: Tensor | None = None

    def blocks(self, blocks: Iterable[nn.Module]) -> nn.ModuleList:
        """Modules that stand for consecutive blocks, from the first on; each has to run once, in order."""
        return nn.ModuleList(_BlockInPlace(block, self) for block in blocks)

    def run(self, block: nn.Module, x_BTC: Tensor, **kwargs: Any) -> Tensor:
        """The features of the whole grid after a block, prefix tokens first.

        Args:
            block: The next block.
            x_BTC: The features before the block.
            kwargs: Passed to the block.
        """
        before_BTC = x_BTC if self._whole_BTC is None else self._whole_BTC
        entering_BTC = x_BTC if self.remaining_BTC is None else self.remaining_BTC
        self.remaining_BTC = block(entering_BTC, call=self._call, **kwargs)
        self._whole_BTC = self._placed(self.remaining_BTC, before_BTC)
        return self._whole_BTC

    def _placed(self, x_BTC: Tensor, before_BTC: Tensor) -> Tensor:
        groups_BN = self._call.trace.groups_BN
        if groups_BN is None:
            return x_BTC
        prefix = self._call.num_prefix_tokens
        index_BN1 = groups_BN.clamp_min(0).unsqueeze(-1)
        found_BNC = x_BTC[:, prefix:].gather(1, index_BN1.expand(-1, -1, x_BTC.shape[2]))
        placed_BNC = torch.where((groups_BN == GONE).unsqueeze(-1), before_BTC[:, prefix:], found_BNC)
        return torch.cat((x_BTC[:, :prefix], placed_BNC), dim=1)


class _BlockInPlace(nn.Module):
    def __init__(self, block: nn.Module, tokens: TokensInPlace) -> None:
        super().__init__()
        self.block, self.tokens = block, tokens

    def forward(self, x: Tensor, **kwargs: Any) -> Tensor:
        return self.tokens.run(self.block, x, **kwargs)

"""Trace of a forward pass of an isotropic model, with what is stored for each of its remaining tokens.

Shapes: `B` batch, `N` patch tokens, `H` heads, `D` channels of a head.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from sparsesearch.sparsify.attention import NOTHING_NOTED, LayerStatistics, Notes
from sparsesearch.sparsify.trace import Trace


@dataclass
class TokenTrace(Trace):
    """Trace of a forward pass of an isotropic model.

    Attributes:
        positions_BN: Raster index of each remaining patch token, -1 for a fused one; None while all remain in raster
            order.
        size_BN: Number of patches that each patch token represents; None while each represents one, or if not tracked.
        decision_BN: Cumulative decision in masked mode; None before the first.
        notes: Records of the last attention layer.
        statistics: SPOT's statistics of previous layers that a later step may read.
        rope_BHND: Rotary embeddings gathered for the remaining tokens.
        groups_BN: For each patch of the initial grid, the token that represents it, -1 for none; None while each
            represents itself, or if not tracked.
    """

    positions_BN: Tensor | None = None
    size_BN: Tensor | None = None
    decision_BN: Tensor | None = None
    notes: Notes = NOTHING_NOTED
    statistics: tuple[LayerStatistics, ...] = ()
    rope_BHND: Tensor | None = None
    groups_BN: Tensor | None = None

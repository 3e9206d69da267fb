"""Cost of token selection: multiply-adds and parameters of scorers, and multiply-adds of matching."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from sparsesearch.schedule.geometry import StageGeometry
from sparsesearch.schedule.methods import Merge, Reducer, Scorer, is_learned

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Count = TypeVar("Count", int, "NDArray[np.int64]")


def scorer_macs(scorer: Scorer | None, *, dim: int, num_statistics: int = 0) -> int:
    """Multiply-adds of scoring one patch token; 0 for a scorer without parameters.

    The class row that `class_attention` reads is counted with attention, not with the scorer.

    Args:
        scorer: The scorer.
        dim: Channels of a token.
        num_statistics: Attention statistics per token that SPOT reads.

    Source: the layers of the DynamicViT predictor, arXiv:2106.02034, section 3.2; of SPOT's, arXiv:2511.10488.
    """
    if not is_learned(scorer):
        return 0
    half, quarter = dim // 2, dim // 4
    return dim * dim + (dim + num_statistics) * half + half * quarter + quarter * 2


def scorer_params(scorer: Scorer | None, *, dim: int, num_statistics: int = 0) -> int:
    """Parameters of one scorer: linear layers with biases and layer norms.

    Args:
        scorer: As in `scorer_macs`.
        dim: As in `scorer_macs`.
        num_statistics: As in `scorer_macs`.
    """
    if scorer is None or not is_learned(scorer):
        return 0
    half, quarter = dim // 2, dim // 4
    norms = 2 * dim
    if scorer.kind == "spot":
        norms += 2 * (dim + num_statistics)
    weights = scorer_macs(scorer, dim=dim, num_statistics=num_statistics)
    return norms + weights + dim + half + quarter + 2


def matching_macs(reducer: Reducer, stage: StageGeometry, num_before: Count) -> Count:
    """Multiply-adds of the similarity between the two sets of a merge; 0 for any other reducer.

    Args:
        reducer: The reducer.
        stage: Its stage.
        num_before: Patch tokens that arrive, as one number or an array.

    Source: ToMe (arXiv:2210.09461), section 3.
    """
    if not isinstance(reducer, Merge):
        return num_before * 0
    width = stage.attn_dim // stage.num_heads if reducer.metric == "keys" else stage.dim
    first = num_before // 2
    return first * (num_before - first) * width

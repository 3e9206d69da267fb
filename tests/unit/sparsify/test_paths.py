"""Rows on slow and fast paths."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from sparsesearch.sparsify import paths
from sparsesearch.sparsify.gather import divide_tokens
from sparsesearch.sparsify.paths import Split


def handcrafted(x_RC: Tensor, split: Split, slow: nn.Module, fast: nn.Module | None) -> Tensor:
    """Each row from its own path, one after the other."""
    branch_RC = torch.zeros_like(x_RC)
    for row in split.slow_S.tolist():
        branch_RC[row] = slow(x_RC[row : row + 1])[0]
    for row in split.fast_F.tolist() if fast is not None else ():
        branch_RC[row] = fast(x_RC[row : row + 1])[0]
    return branch_RC


@pytest.mark.parametrize("has_fast", [True, False])
@pytest.mark.parametrize("part_bytes", [1, 5 * 4 * 8, 2**30])
@pytest.mark.parametrize("with_gradients", [True, False])
def test_each_row_takes_its_path_however_the_rows_are_divided(
    monkeypatch: pytest.MonkeyPatch, *, has_fast: bool, part_bytes: int, with_gradients: bool
) -> None:
    monkeypatch.setattr(paths, "_PART_BYTES", part_bytes)
    torch.manual_seed(0)
    slow, fast = nn.Linear(8, 8), nn.Linear(8, 8) if has_fast else None
    x_RC = torch.randn(3 * 7, 8)
    split = Split.of(*divide_tokens(torch.rand(3, 7), 4))
    calls: list[int] = []

    def counted(rows: Tensor) -> Tensor:
        calls.append(len(rows))
        return slow(rows)

    with torch.set_grad_enabled(with_gradients):
        found_RC = split.run(x_RC, slow=counted, fast=fast)
    torch.testing.assert_close(found_RC, handcrafted(x_RC, split, slow, fast))
    assert sum(calls) == 12
    assert max(calls) == (12 if with_gradients else {1: 1, 160: 4, 2**30: 12}[part_bytes])

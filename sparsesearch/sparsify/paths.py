"""Fast paths, and the routing of the rows of a feature map through the slow or the fast path.

Shapes: `B` batch, `N` positions of one image in raster order, `R` rows: the concatenated positions of all images,
`S` rows on the slow path, `F` rows on the fast path, `P` rows of a part, `C` channels.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sparsesearch.schedule.methods import FastPath

_PART_BYTES = 3 * 2**20  # size of the input of a path; its hidden layer is four times as large


class LinearPath(nn.Module):
    """Layer norm and one linear layer.

    Args:
        dim: Channels.
        eps: Epsilon of the layer norm.
        scale: Initial value of the layer scale; None for no layer scale.
        generator: Source of the initial weights (truncated normal, standard deviation 0.02; zero biases).

    Source: Dynamic Spatial Sparsification (arXiv:2207.01580), section 3.3.
    """

    def __init__(self, dim: int, *, eps: float, scale: float | None, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.fc = nn.Linear(dim, dim)
        self.gamma = _scale(dim, scale)
        _initialise(self, generator)

    def forward(self, x_RC: Tensor) -> Tensor:
        """The residual branch of each row."""
        y_RC: Tensor = self.fc(self.norm(x_RC))
        return y_RC if self.gamma is None else y_RC * self.gamma


class BottleneckPath(nn.Module):
    """Layer norm and two linear layers with a quarter of the channels between them.

    Args:
        dim: Channels.
        eps: As in `LinearPath`.
        scale: As in `LinearPath`.
        generator: As in `LinearPath`.
    """

    def __init__(self, dim: int, *, eps: float, scale: float | None, generator: torch.Generator) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(dim, eps=eps)
        self.fc1 = nn.Linear(dim, dim // 4)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(dim // 4, dim)
        self.gamma = _scale(dim, scale)
        _initialise(self, generator)

    def forward(self, x_RC: Tensor) -> Tensor:
        """The residual branch of each row."""
        y_RC: Tensor = self.fc2(self.act(self.fc1(self.norm(x_RC))))
        return y_RC if self.gamma is None else y_RC * self.gamma


def build_fast_path(
    kind: FastPath, *, dim: int, name: str, seed: int, eps: float, scale: float | None
) -> nn.Module | None:
    """Build a fast path whose initial weights depend only on `seed` and `name`; None for the identity.

    Args:
        kind: Kind of fast path.
        dim: Channels.
        name: Its location in the model, for example `2_1`.
        seed: Seed of the initial weights.
        eps: Epsilon of the layer norm.
        scale: Initial value of the layer scale; None for no layer scale.
    """
    if kind == "identity":
        return None
    generator = torch.Generator().manual_seed(zlib.crc32(f"{seed}/fast/{name}".encode()))
    make = LinearPath if kind == "linear" else BottleneckPath
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        return make(dim, eps=eps, scale=scale, generator=generator)


class Split(NamedTuple):
    """The path of each row of a batch.

    Attributes:
        slow_S: Rows on the slow path.
        fast_F: Rows on the fast path.
    """

    slow_S: Tensor
    fast_F: Tensor

    @classmethod
    def of(cls, slow_BK: Tensor, fast_BM: Tensor) -> Split:
        """Send positions to the two paths.

        Args:
            slow_BK: The raster indices of the positions of each image on the slow path.
            fast_BM: Those of all others.
        """
        batch, num_positions = slow_BK.shape[0], slow_BK.shape[1] + fast_BM.shape[1]
        first_B1 = torch.arange(batch, device=slow_BK.device).unsqueeze(1) * num_positions
        return cls((slow_BK + first_B1).reshape(-1), (fast_BM + first_B1).reshape(-1))

    def run(self, x_RC: Tensor, *, slow: Callable[[Tensor], Tensor], fast: Callable[[Tensor], Tensor] | None) -> Tensor:
        """Compute the residual branch of every row with its path.

        Args:
            x_RC: All rows.
            slow: The slow path.
            fast: The fast path; None for a branch of zeros.
        """
        size = _rows_at_once(x_RC)
        branch_RC: Tensor | None = None
        for path, rows in ((slow, self.slow_S), (fast, self.fast_F)):
            if path is None:
                continue
            for part in (rows,) if size is None else rows.chunk(max(1, -(-rows.shape[0] // size))):
                y_PC = path(x_RC.index_select(0, part))
                if branch_RC is None:
                    branch_RC = (y_PC.new_zeros if fast is None else y_PC.new_empty)(x_RC.shape)
                branch_RC = branch_RC.index_copy_(0, part, y_PC.to(branch_RC.dtype))
        assert branch_RC is not None
        return branch_RC


def _rows_at_once(x_RC: Tensor) -> int | None:
    """Number of rows that are processed at once, None for all.

    On a CPU, the hidden layer of many rows exceeds the cache, so that inference is faster in parts. Training would have
    to keep the parts for the backward pass, and compilation works better without them.
    """
    if x_RC.device.type != "cpu" or torch.is_grad_enabled() or torch.compiler.is_compiling():
        return None
    return max(1, _PART_BYTES // (x_RC.shape[1] * x_RC.element_size()))


def _scale(dim: int, scale: float | None) -> nn.Parameter | None:
    return None if scale is None else nn.Parameter(torch.full((dim,), scale))


def _initialise(path: nn.Module, generator: torch.Generator) -> None:
    for module in path.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
            nn.init.zeros_(module.bias)

"""Stochastic depth whose random numbers depend on the place of an image in the training step."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from sparsesearch.backbones.transforms import family_of
from sparsesearch.sparsify.draws import Draws

_NAMES = ("drop_path", "drop_path1", "drop_path2")


class DropPath(nn.Module):
    """Drops the residual branch of some images in training, and scales that of the others.

    timm's module of this name draws from the global generator, so that the processes and parts of a step would draw
    other numbers than an undivided step. An image that a module drops is dropped each time the module runs in a step:
    on both paths of a block in masked training, and when the block is recomputed in the backward pass.

    Args:
        name: Names the random numbers.
        rate: Probability that an image is dropped.

    Source: Deep Networks with Stochastic Depth (arXiv:1603.09382), per image as in timm.
    """

    def __init__(self, name: str, rate: float) -> None:
        super().__init__()
        self._name = name
        self._rate = rate
        self.draws: Draws | None = None

    def forward(self, x: Tensor) -> Tensor:
        """The branch of each image, or zeros."""
        if not self.training:
            return x
        assert self.draws is not None, "follow_ is called before each training step"
        uniform = self.draws.uniform((x.shape[0],), device=x.device, purpose=f"drop path {self._name}")
        scale = (uniform >= self._rate).to(x.dtype) / (1.0 - self._rate)
        return x * scale.view(-1, *(1,) * (x.ndim - 1))

    def extra_repr(self) -> str:
        """The rate."""
        return f"rate={self._rate:g}"


def set_drop_path_(model: nn.Module, rate: float) -> None:
    """Give every block stochastic depth, with a rate that rises linearly over the blocks from 0, in place.

    Args:
        model: A model of any family, sparse or dense; it trains only after `follow_`.
        rate: That of the last block; 0 changes nothing.
    """
    if rate == 0.0:
        return
    family = family_of(model)
    places = family.blocks(model)
    for number, (stage, index) in enumerate(places):
        block: Any = family.block(model, stage, index)
        own = rate * number / max(1, len(places) - 1)
        for name in _NAMES:
            if own and hasattr(block, name):
                setattr(block, name, DropPath(f"{stage}.{index}.{name}", own))


def follow_(model: nn.Module, draws: Draws) -> None:
    """Let a model drop paths with the random numbers of a step, for the images that it is given next."""
    for module in model.modules():
        if isinstance(module, DropPath):
            module.draws = draws

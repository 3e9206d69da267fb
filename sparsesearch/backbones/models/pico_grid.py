"""`convnext_pico` and `swin_pico`: hierarchical backbones small enough to train in a minute on two CPU cores.

Shapes: `B` batch, `C` channels, `H` and `W` pixels or positions.
"""

from __future__ import annotations

from typing import Any

import torch
from timm.models.convnext import ConvNeXt
from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from sparsesearch.backbones.model_options import DEFAULT_OPTIONS, BundledBackbone, ModelOptions
from sparsesearch.backbones.models.pico import IMAGE_SIZE, IN_CHANS, draw_small_, small_arguments
from sparsesearch.errors import BackboneError

_LAYER_SCALE = 0.5
_SMALLEST = 16


class GridStem(nn.Module):
    """Two 3x3 convolutions with batch norm, the first of stride 2: one position per 2x2 pixels.

    It has the constructor and the attributes that timm's `SwinTransformer` expects of its `embed_layer`.

    Args:
        img_size: Height and width in pixels.
        patch_size: Height and width of a patch in pixels; always 2.
        in_chans: Channels of the image.
        embed_dim: Channels of the positions.
        norm_layer: Unused: batch norm follows every convolution.
        strict_img_size: Unused: the image size is not checked.
        output_fmt: `NCHW` or `NHWC`.
        device: Device of the weights.
        dtype: Data type of the weights.

    Raises:
        BackboneError: The image is too small.
    """

    def __init__(
        self,
        img_size: tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE),
        patch_size: int = 2,
        in_chans: int = IN_CHANS,
        embed_dim: int = 24,
        norm_layer: object = None,
        strict_img_size: bool = True,
        output_fmt: str = "NCHW",
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        assert patch_size == 2
        height, width = img_size
        if min(height, width) < _SMALLEST:
            raise BackboneError(
                f"invalid image size {height}x{width} for a pico backbone; use at least {_SMALLEST}x{_SMALLEST}"
            )
        self.img_size = (height, width)
        self.patch_size = (2, 2)
        self.grid_size = ((height + 1) // 2, (width + 1) // 2)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        self.is_last = output_fmt == "NHWC"
        self.layers = nn.Sequential(
            nn.Conv2d(in_chans, embed_dim, 3, stride=2, padding=1, bias=False, device=device, dtype=dtype),
            nn.BatchNorm2d(embed_dim, device=device, dtype=dtype),
            nn.ReLU(),
            nn.Conv2d(embed_dim, embed_dim, 3, padding=1, bias=False, device=device, dtype=dtype),
            nn.BatchNorm2d(embed_dim, device=device, dtype=dtype),
        )

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """The first feature map."""
        map_BCHW: Tensor = self.layers(x_BCHW)
        return map_BCHW.permute(0, 2, 3, 1) if self.is_last else map_BCHW


def create_convnext_pico(options: ModelOptions = DEFAULT_OPTIONS) -> nn.Module:
    """Build a timm `ConvNeXt` of four stages on grids of 16, 8, 4 and 2, with a batch norm stem.

    Args:
        options: Defaults are 10 classes, 1 channel and 32x32 pixels.

    Raises:
        BackboneError: The image is too small.
    """
    arguments = small_arguments(options)
    size, chans = arguments.pop("img_size"), arguments["in_chans"]
    dims = (24, 48, 96, 128)
    with torch.random.fork_rng(devices=[]):
        model: Any = ConvNeXt(
            **arguments,
            depths=(1, 4, 2, 1),
            dims=dims,
            kernel_sizes=(3, 7, 3, 3),
            ls_init_value=_LAYER_SCALE,
        )
        model.stem = GridStem(img_size=size, in_chans=chans, embed_dim=dims[0])
    for info in model.feature_info:
        info["reduction"] //= 2  # timm assumes a stem of stride 4
    model.pretrained_cfg = {"input_size": (chans, *size)}
    model.layer_scale_init = _LAYER_SCALE
    return _drawn(model, seed=options.seed)


def create_swin_pico(options: ModelOptions = DEFAULT_OPTIONS) -> nn.Module:
    """Build a timm `SwinTransformer` of three stages on grids of 16, 8 and 4, with windows of 4 and the same stem.

    Args:
        options: As in `create_convnext_pico`.

    Raises:
        BackboneError: The image is too small.
    """
    with torch.random.fork_rng(devices=[]):
        model: Any = SwinTransformer(
            **small_arguments(options),
            patch_size=2,
            embed_dim=24,
            depths=(1, 4, 1),
            num_heads=(2, 4, 8),
            window_size=4,
            embed_layer=GridStem,
        )
    return _drawn(model, seed=options.seed)


def _drawn(model: nn.Module, *, seed: int) -> nn.Module:
    draw_small_(model, seed=seed)
    return model


BACKBONES = {
    "convnext_pico": BundledBackbone(create_convnext_pico, IMAGE_SIZE, IN_CHANS),
    "swin_pico": BundledBackbone(create_swin_pico, IMAGE_SIZE, IN_CHANS),
}

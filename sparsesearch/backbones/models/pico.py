"""`deit_pico` and `deit_nano`: ViTs small enough to train in one and in four minutes on two CPU cores.

Shapes: `B` batch, `N` tokens, `C` channels, `H` and `W` pixels.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sparsesearch.backbones.model_options import DEFAULT_OPTIONS, BundledBackbone, ModelOptions
from sparsesearch.errors import BackboneError

IMAGE_SIZE = 32
IN_CHANS = 1
NUM_CLASSES = 10
_STRIDE = 4
_HEADS_AND_POSITIONS = ("cls_token", "pos_embed", "head.weight", "head.fc.weight")


class ConvStem(nn.Module):
    """Two 3x3 convolutions of stride 2 with batch norm: one token per 4x4 pixels.

    It has the constructor and the attributes that timm's `VisionTransformer` expects of its `embed_layer`.

    Args:
        img_size: Height and width in pixels, multiples of 4.
        patch_size: Height and width of a patch in pixels; always 4.
        in_chans: Channels of the image.
        embed_dim: Channels of the tokens.
        bias: Unused: batch norm follows every convolution.
        dynamic_img_pad: Unused: images are never padded.
        device: Device of the weights.
        dtype: Data type of the weights.

    Raises:
        BackboneError: The image size is not a multiple of the patch size.

    Source: Early convolutions help transformers see better (arXiv:2106.14881).
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = IMAGE_SIZE,
        patch_size: int = _STRIDE,
        in_chans: int = IN_CHANS,
        embed_dim: int = 48,
        bias: bool = False,
        dynamic_img_pad: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        assert patch_size == _STRIDE
        height, width = (img_size, img_size) if isinstance(img_size, int) else img_size
        if height % _STRIDE or width % _STRIDE or not height or not width:
            raise BackboneError(
                f"invalid image size {height}x{width} for deit_pico and deit_nano; "
                f"height and width must be multiples of {_STRIDE}"
            )
        self.img_size = (height, width)
        self.patch_size = (_STRIDE, _STRIDE)
        self.grid_size = (height // _STRIDE, width // _STRIDE)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        middle = embed_dim // 2
        self.layers = nn.Sequential(
            nn.Conv2d(in_chans, middle, 3, stride=2, padding=1, bias=False, device=device, dtype=dtype),
            nn.BatchNorm2d(middle, device=device, dtype=dtype),
            nn.ReLU(),
            nn.Conv2d(middle, embed_dim, 3, stride=2, padding=1, bias=False, device=device, dtype=dtype),
            nn.BatchNorm2d(embed_dim, device=device, dtype=dtype),
        )

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """The token grid of an image; timm asks for it when it returns feature maps."""
        return img_size[0] // self.patch_size[0], img_size[1] // self.patch_size[1]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Tokens `B x N x C` in raster order."""
        map_BCHW: Tensor = self.layers(x_BCHW)
        return map_BCHW.flatten(2).transpose(1, 2)


def create_pico(options: ModelOptions = DEFAULT_OPTIONS) -> nn.Module:
    """Build a timm `VisionTransformer` of width 48 and depth 8 with a convolutional stem.

    Args:
        options: Defaults are 10 classes, 1 channel and 32x32 pixels.

    Raises:
        BackboneError: The image size is not a multiple of 4.
    """
    return _small_vit(options, width=48, depth=8, num_heads=3)


def create_nano(options: ModelOptions = DEFAULT_OPTIONS) -> nn.Module:
    """Build the same of width 64 and depth 12; see `create_pico`."""
    return _small_vit(options, width=64, depth=12, num_heads=4)


def _small_vit(options: ModelOptions, *, width: int, depth: int, num_heads: int) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        model: Any = VisionTransformer(
            **small_arguments(options),
            patch_size=_STRIDE,
            embed_dim=width,
            depth=depth,
            num_heads=num_heads,
            mlp_ratio=4.0,
            embed_layer=ConvStem,
            weight_init="skip",
        )
    draw_small_(model, seed=options.seed)
    built: nn.Module = model
    return built


def small_arguments(options: ModelOptions) -> dict[str, Any]:
    """Arguments for timm's constructors of the backbones designed for the bundled task."""
    return options.arguments(num_classes=NUM_CLASSES, in_chans=IN_CHANS, image_size=(IMAGE_SIZE, IMAGE_SIZE))


def draw_small_(model: nn.Module, *, seed: int) -> None:
    """Initialise a small model with standard deviation 1/sqrt(fan-in), its head and position embeddings with 0.02.

    With timm's initialisation (0.02 everywhere), such narrow models do not converge in a short training.

    Args:
        model: A timm model with a convolutional stem; parameters on the meta device are skipped.
        seed: Seed of the weights.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.is_meta:
                continue
            if name in _HEADS_AND_POSITIONS or name.endswith("relative_position_bias_table"):
                parameter.normal_(std=0.02, generator=generator)
            elif parameter.ndim > 1:
                fan_in = parameter[0].numel()
                parameter.normal_(std=1.0 / math.sqrt(fan_in), generator=generator)
            elif name.endswith("bias"):
                parameter.zero_()


BACKBONES = {
    "deit_pico": BundledBackbone(create_pico, IMAGE_SIZE, IN_CHANS),
    "deit_nano": BundledBackbone(create_nano, IMAGE_SIZE, IN_CHANS),
}

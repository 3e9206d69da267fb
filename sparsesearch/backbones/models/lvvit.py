"""LV-ViT, which timm does not provide: a ViT with a deeper stem, scaled residual branches and a token head.

It is a timm `VisionTransformer` built from timm's blocks, so that code for those also applies to it. Keys and shapes of
its `state_dict` match the published weights.

Shapes: `B` batch, `N` tokens, `C` channels, `K` classes, `H` and `W` pixels.

Source: All Tokens Matter (arXiv:2104.10858), sections 3 and 4; the sizes are those of its table 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from sparsesearch.backbones.model_options import DEFAULT_OPTIONS, BundledBackbone, ModelOptions
from sparsesearch.backbones.models.pico import draw_small_
from sparsesearch.errors import BackboneError

_STRIDE_OF_FIRST = 2
_EPS = 1e-5
_AUX_WEIGHT = 0.5


@dataclass(frozen=True)
class Size:
    """One of the LV-ViT models.

    Attributes:
        dim: Channels of the tokens.
        depth: Number of blocks.
        num_heads: Attention heads.
        divisor: Divisor of each residual branch.
        patch_size: Height and width of a patch in pixels.
        stem_dim: Channels of the stem.
        image_size: Height and width of the image in pixels.
        in_chans: Channels of the image.
        num_classes: Classes of both heads.
    """

    dim: int
    depth: int
    num_heads: int
    divisor: int
    patch_size: int = 16
    stem_dim: int = 64
    image_size: int = 224
    in_chans: int = 3
    num_classes: int = 1000


SIZES = {
    "lvvit_t": Size(dim=240, depth=12, num_heads=4, divisor=1),
    "lvvit_s": Size(dim=384, depth=16, num_heads=6, divisor=2),
    "lvvit_m": Size(dim=512, depth=20, num_heads=8, divisor=2),
    "lvvit_pico": Size(
        dim=48, depth=8, num_heads=3, divisor=2, patch_size=4, stem_dim=16, image_size=32, in_chans=1, num_classes=10
    ),
}


class Divide(nn.Module):
    """Division by a fixed number; replaces the learned layer scale of timm's blocks."""

    def __init__(self, divisor: int) -> None:
        super().__init__()
        self.divisor = divisor

    def forward(self, x_BNC: Tensor) -> Tensor:
        """The quotient, same shape."""
        return x_BNC / self.divisor


class LvVitStem(nn.Module):
    """Three convolutions with batch norm, the first of stride 2, and a convolution that produces tokens.

    It has the constructor and the attributes that timm's `VisionTransformer` expects of its `embed_layer`.

    Args:
        img_size: Height and width in pixels, multiples of the patch size.
        patch_size: Height and width of a patch in pixels; even.
        in_chans: Channels of the image.
        embed_dim: Channels of the tokens.
        width: Channels of the first three convolutions.
        bias: Whether the last convolution has a bias.
        dynamic_img_pad: Unused: images are never padded.
        device: Device of the weights.
        dtype: Data type of the weights.

    Raises:
        BackboneError: The image size is not a multiple of the patch size.
    """

    def __init__(
        self,
        img_size: int | tuple[int, int] = 224,
        patch_size: int = 16,
        in_chans: int = 3,
        embed_dim: int = 384,
        width: int = 64,
        bias: bool = True,
        dynamic_img_pad: bool = False,
        device: torch.device | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        rows, columns = (img_size, img_size) if isinstance(img_size, int) else img_size
        if rows % patch_size or columns % patch_size or not rows or not columns:
            raise BackboneError(
                f"invalid image size {rows}x{columns} for LV-ViT; height and width must be multiples of {patch_size}"
            )
        self.img_size = (rows, columns)
        self.patch_size = (patch_size, patch_size)
        self.grid_size = (rows // patch_size, columns // patch_size)
        self.num_patches = self.grid_size[0] * self.grid_size[1]
        stride = patch_size // _STRIDE_OF_FIRST
        conv: Any = partial(nn.Conv2d, bias=False, device=device, dtype=dtype)
        norm: Any = partial(nn.BatchNorm2d, device=device, dtype=dtype)
        self.conv1 = conv(in_chans, width, 7, stride=_STRIDE_OF_FIRST, padding=3)
        self.bn1 = norm(width)
        self.conv2 = conv(width, width, 3, padding=1)
        self.bn2 = norm(width)
        self.conv3 = conv(width, width, 3, padding=1)
        self.bn3 = norm(width)
        self.proj = nn.Conv2d(width, embed_dim, stride, stride=stride, bias=bias, device=device, dtype=dtype)

    def dynamic_feat_size(self, img_size: tuple[int, int]) -> tuple[int, int]:
        """The token grid of an image; timm asks for it when it returns feature maps."""
        return img_size[0] // self.patch_size[0], img_size[1] // self.patch_size[1]

    def forward(self, x_BCHW: Tensor) -> Tensor:
        """Tokens `B x N x C` in raster order."""
        for conv, norm in ((self.conv1, self.bn1), (self.conv2, self.bn2), (self.conv3, self.bn3)):
            x_BCHW = norm(conv(x_BCHW)).relu()
        map_BCHW: Tensor = self.proj(x_BCHW)
        return map_BCHW.flatten(2).transpose(1, 2)


class LvVit(VisionTransformer):
    """An LV-ViT of any size.

    In evaluation, the logits of the class token are added to half of the maximum of the token logits over the remaining
    tokens. In training, only the logits of the class token are returned; a loss on tokens uses `token_logits` of the
    tokens after the last norm. The token head is initialised with zeros, so that it has no effect without such a loss.

    Args:
        size: One of the models.
        img_size: Height and width in pixels; None for the default of the size.
        in_chans: Channels of the image; None for the default of the size.
        num_classes: Classes of both heads, 0 for none; None for the default of the size.
        drop_rate: Dropout before the head of the class token.
        drop_path_rate: Stochastic depth, increasing linearly over the blocks to this rate.
    """

    def __init__(
        self,
        size: Size,
        *,
        img_size: int | tuple[int, int] | None = None,
        in_chans: int | None = None,
        num_classes: int | None = None,
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
    ) -> None:
        super().__init__(
            img_size=size.image_size if img_size is None else img_size,
            patch_size=size.patch_size,
            in_chans=size.in_chans if in_chans is None else in_chans,
            num_classes=size.num_classes if num_classes is None else num_classes,
            embed_dim=size.dim,
            depth=size.depth,
            num_heads=size.num_heads,
            mlp_ratio=3.0,
            qkv_bias=False,
            drop_rate=drop_rate,
            drop_path_rate=drop_path_rate,
            norm_layer=partial(nn.LayerNorm, eps=_EPS),
            embed_layer=partial(LvVitStem, width=size.stem_dim),
        )
        if size.divisor != 1:
            for block in self.blocks:
                parts: Any = block
                parts.ls1, parts.ls2 = Divide(size.divisor), Divide(size.divisor)
        self.aux_head = self._make_aux_head()

    def class_logits(self, x_BNC: Tensor) -> Tensor:
        """Logits of the class token alone, `B x K`: the output in training, and the one of a teacher.

        Args:
            x_BNC: Tokens after the last norm, class token first.
        """
        logits_BK: Tensor = super().forward_head(x_BNC)
        return logits_BK

    def token_logits(self, x_BNC: Tensor) -> Tensor:
        """Auxiliary logits of each token, `B x N x K`.

        Args:
            x_BNC: Patch tokens after the last norm, without the class token.
        """
        logits_BNK: Tensor = self.aux_head(x_BNC)
        return logits_BNK

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """Logits, or the input of the class token's head."""
        if pre_logits or self.training or self.num_classes == 0:
            y: Tensor = super().forward_head(x, pre_logits=pre_logits)
            return y
        tokens_BNK = self.token_logits(x[:, self.num_prefix_tokens :])
        return self.class_logits(x) + _AUX_WEIGHT * tokens_BNK.amax(dim=1)

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the heads for another number of classes; 0 for none.

        Raises:
            BackboneError: `global_pool` is not the class token.
        """
        if num_classes and global_pool not in (None, "token"):
            raise BackboneError(
                f'invalid global_pool {global_pool!r}: LV-ViT classifies by its class token; use "token" or None'
            )
        super().reset_classifier(num_classes, global_pool)
        like = next(self.blocks.parameters())
        self.aux_head = self._make_aux_head().to(like).train(self.training)

    def _make_aux_head(self) -> nn.Module:
        if not self.num_classes:
            return nn.Identity()
        head = nn.Linear(self.embed_dim, self.num_classes)
        nn.init.zeros_(head.weight)
        nn.init.zeros_(head.bias)
        return head


def create_lvvit(name: str, options: ModelOptions = DEFAULT_OPTIONS) -> nn.Module:
    """Build an LV-ViT by name.

    Args:
        name: One of `SIZES`.
        options: Overrides of the defaults of the size.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        model = LvVit(
            SIZES[name],
            img_size=options.image_size,
            in_chans=options.in_chans,
            num_classes=options.num_classes,
            drop_rate=options.drop_rate,
            drop_path_rate=options.drop_path_rate,
        )
    if SIZES[name].dim < 100:
        draw_small_(model, seed=options.seed)
        for parameter in model.aux_head.parameters():
            nn.init.zeros_(parameter)
    return model


BACKBONES = {
    name: BundledBackbone(partial(create_lvvit, name), size.image_size, size.in_chans) for name, size in SIZES.items()
}
ALIASES = {"lvvit_tiny": "lvvit_t", "lvvit_small": "lvvit_s", "lvvit_medium": "lvvit_m"}

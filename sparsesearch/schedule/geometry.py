"""The geometry of a backbone as plain data: all that costs, spaces and schedules need, without torch."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparsesearch.value import Value

Mixer = Literal["attention", "convolution", "window"]


class StageGeometry(Value):
    """One stage of equal blocks. An isotropic ViT is a single stage.

    Attributes:
        depth: Number of blocks.
        dim: Channels of the residual stream.
        attn_dim: Channels of the queries over all heads (typically `dim`); 0 without attention.
        num_heads: Attention heads; 0 without attention.
        mlp_dim: Hidden channels of the feed-forward network.
        grid: Height and width of the token grid.
        num_prefix_tokens: Class and register tokens, never dropped.
        has_class_token: Whether the first prefix token is a class token.
        num_mlp_matrices: Linear layers between `dim` and `mlp_dim` channels: 2, or 3 if the network is gated.
        num_attn_matrices: Linear layers between `dim` and `attn_dim` channels: 4 for queries, keys, values and output,
            or 5 if attention is gated.
        mixer: The token mixer: global attention, depthwise convolution, or attention in windows.
        mixer_macs: Multiply-adds of the token mixer of one block over the whole grid, for convolutions and windows,
            which are never sparse. Unused (0) for global attention, whose cost depends on the tokens left.
        entry_macs: Multiply-adds of the downsampling before the stage.
    """

    depth: int = Field(ge=1)
    dim: int = Field(ge=1)
    attn_dim: int = Field(ge=0)
    num_heads: int = Field(ge=0)
    mlp_dim: int = Field(ge=1)
    grid: tuple[int, int]
    num_prefix_tokens: int = Field(ge=0, default=1)
    has_class_token: bool = True
    num_mlp_matrices: int = Field(ge=2, default=2)
    num_attn_matrices: int = Field(ge=4, default=4)
    mixer: Mixer = "attention"
    mixer_macs: int = Field(ge=0, default=0)
    entry_macs: int = Field(ge=0, default=0)

    @property
    def num_tokens(self) -> int:
        """Patch tokens on entry, without prefix tokens."""
        return self.grid[0] * self.grid[1]

    @property
    def attn_projection_macs(self) -> int:
        """Multiply-adds per token of the attention projections of one block."""
        return self.num_attn_matrices * self.dim * self.attn_dim

    @property
    def attn_pair_macs(self) -> int:
        """Multiply-adds per (query, key) pair: the score product and the value product."""
        return 2 * self.attn_dim

    @property
    def mlp_macs(self) -> int:
        """Multiply-adds per token of the feed-forward network of one block."""
        return self.num_mlp_matrices * self.dim * self.mlp_dim


class BackboneGeometry(Value):
    """Everything about a backbone that its cost and its schedules depend on.

    Attributes:
        name: Resolved backbone name, for example `deit_small_patch16_224`.
        image_size: Height and width of the input in pixels.
        stages: The stages in order.
        stem_macs: Multiply-adds of the patch embedding of one image.
        head_macs: Multiply-adds of everything after the last block (classifier, pooling) of one image.
        head_token_macs: Multiply-adds after the last block per patch token left (attention pooling, auxiliary heads).
        params: Parameters of the dense model.
    """

    name: str
    image_size: tuple[int, int]
    stages: tuple[StageGeometry, ...] = Field(min_length=1)
    stem_macs: int = Field(ge=0)
    head_macs: int = Field(ge=0)
    head_token_macs: int = Field(ge=0, default=0)
    params: int = Field(ge=0)

    @property
    def deepest_stage(self) -> int:
        """Index of the first stage with the most blocks; 0 for isotropic backbones."""
        return max(range(len(self.stages)), key=lambda index: self.stages[index].depth)

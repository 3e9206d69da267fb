"""The shape of a backbone as plain data: all that cost, space and schedule need, without a deep-learning framework."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class StageGeometry(BaseModel):
    """One stage of equal blocks. An isotropic ViT is a single stage.

    Attributes:
        depth: Number of blocks.
        dim: Channels of the residual stream.
        attn_dim: Channels of queries, keys and values together over the heads (usually `dim`).
        num_heads: Attention heads.
        mlp_dim: Hidden channels of the feed-forward network.
        grid: Height and width of the token grid.
        num_prefix_tokens: Class and register tokens, never dropped.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth: int = Field(ge=1)
    dim: int = Field(ge=1)
    attn_dim: int = Field(ge=1)
    num_heads: int = Field(ge=1)
    mlp_dim: int = Field(ge=1)
    grid: tuple[int, int]
    num_prefix_tokens: int = Field(ge=0, default=1)

    @property
    def num_tokens(self) -> int:
        """Patch tokens on entry, prefix tokens not counted."""
        return self.grid[0] * self.grid[1]

    @property
    def attn_projection_macs(self) -> int:
        """Multiply-adds a token of the qkv and output projections of one block."""
        return 4 * self.dim * self.attn_dim

    @property
    def attn_pair_macs(self) -> int:
        """Multiply-adds a (query, key) pair: the score product and the value product."""
        return 2 * self.attn_dim

    @property
    def mlp_macs(self) -> int:
        """Multiply-adds a token of the feed-forward network of one block."""
        return 2 * self.dim * self.mlp_dim


class BackboneGeometry(BaseModel):
    """Everything about a backbone that its cost and its schedules depend on.

    Attributes:
        name: Resolved backbone name, for example `deit_small_patch16_224`.
        image_size: Height and width of the input in pixels.
        stages: The stages in order.
        stem_macs: Multiply-adds of the patch embedding of one image.
        head_macs: Multiply-adds of everything behind the last block (classifier, pooling) of one image.
        params: Parameters of the dense model.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    image_size: tuple[int, int]
    stages: tuple[StageGeometry, ...] = Field(min_length=1)
    stem_macs: int = Field(ge=0)
    head_macs: int = Field(ge=0)
    params: int = Field(ge=0)

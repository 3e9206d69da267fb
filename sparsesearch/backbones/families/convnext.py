"""The ConvNeXt family: timm's models, sparsified in place by a fast path parallel to the feed-forward network.

The depthwise convolution of a block is always dense; everything after it operates on rows, each on one path.

Shapes: `B` batch, `C` channels, `H` and `W` height and width of a grid, `N` its positions, `R` rows of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from timm.layers.classifier import NormMlpClassifierHead
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from sparsesearch.backbones.class_change import (
    SparseModel,
    SparseSequential,
    SparseStage,
    change_class_,
    check_forward,
)
from sparsesearch.backbones.convnext_geometry import geometry, token_geometry
from sparsesearch.backbones.grid_blocks import SparseGridBlock, add_fast_paths_, planned_fast_paths
from sparsesearch.backbones.sparsity import Sparsity
from sparsesearch.schedule import ResolvedStep
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.grid_call import GridCall, Pair, merge
from sparsesearch.sparsify.model_plan import Plan
from sparsesearch.sparsify.paths import Split
from sparsesearch.sparsify.state import SparsityState

DESCRIPTION = "ConvNeXt"
TIMM_MODULES = ("timm.models.convnext",)
UNSUPPORTED = ("convnextv2",)  # their feed-forward network needs all positions at once
ANY_IMAGE_SIZE = True
ALIASES = {"convnext_t": "convnext_tiny", "convnext_s": "convnext_small", "convnext_b": "convnext_base"}


__all__ = [
    "CALL", "block", "blocks", "check_step", "complete_plan", "embed", "equip_", "finish", "geometry", "matches",
    "patch_", "patches", "predictor_eps", "run", "token_geometry",
]  # fmt: skip

CALL = GridCall
predictor_eps = 1e-6
_LAYER_SCALE = 1e-6


class SparseConvNeXt(SparseModel):
    """Mixin for the model's class."""

    sparsity_container = "stages"

    def forward_features(self, x: Tensor, *, call: GridCall | None = None) -> Tensor:
        """As in timm, in the given call or one of its own."""
        model: Any = self
        call = self.sparsity_call(call)
        features: Tensor = model.norm_pre(model.stages(model.stem(x), call=call))
        call.finish(_final(model, features, call))
        return self.sparsity_tied(features, call)


class SparseConvNeXtBlock(SparseGridBlock):
    """Mixin for the class of every block."""

    sparsity_channels_first = True

    def sparsity_gathered(self, split: Split, fast: nn.Module | None, x_BCHW: Tensor) -> Tensor:
        """Run a block with each position on one path; the fast path is the identity if None."""
        block: Any = self
        y_BHWC = block.conv_dw(x_BCHW).permute(0, 2, 3, 1)
        branch_RC = split.run(y_BHWC.flatten(0, 2), slow=lambda x_RC: _feed_forward(block, x_RC), fast=fast)
        branch_BCHW = branch_RC.reshape(y_BHWC.shape).permute(0, 3, 1, 2)
        z_BCHW: Tensor = block.drop_path(branch_BCHW) + block.shortcut(x_BCHW)
        return z_BCHW

    def sparsity_both_paths(
        self, fast: nn.Module | None, x_BHWC: Tensor, slow_BHWC: Tensor, fast_BHWC: Tensor, mask_BN: Tensor
    ) -> Pair:
        """Add the residual branch of each path to its own map, both computed from the convolved merged map.

        Source: Dynamic Spatial Sparsification (arXiv:2207.01580), section 3.3 and its published code.
        """
        block: Any = self
        y_BHWC = block.conv_dw(x_BHWC.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)

        def branch(path: Callable[[Tensor], Tensor], z_BHWC: Tensor) -> Tensor:
            kept: Tensor = block.drop_path(path(z_BHWC.flatten(0, 2)).reshape(z_BHWC.shape))
            return kept

        entry_BHWC = merge((fast_BHWC, y_BHWC), mask_BN)
        slow_BHWC = slow_BHWC + branch(lambda x_RC: _feed_forward(block, x_RC), merge((y_BHWC, slow_BHWC), mask_BN))
        return slow_BHWC, fast_BHWC if fast is None else fast_BHWC + branch(fast, entry_BHWC)


def matches(model: nn.Module) -> bool:
    """Whether the model is of this family."""
    return isinstance(model, ConvNeXt)


def check_step(model: Any, step: ResolvedStep) -> None:
    """Do nothing: every resolved step can be run."""


def patch_(model: Any, state: SparsityState) -> None:
    """Change the classes of a model, its stages and blocks."""
    check_forward(model, ConvNeXt)
    for index, stage in enumerate(model.stages):
        for number, block in enumerate(stage.blocks):
            change_class_(block, SparseConvNeXtBlock, state, sparsity_block=(index, number))
        change_class_(stage.blocks, SparseSequential, state)
        change_class_(stage, SparseStage, state)
    change_class_(model.stages, SparseSequential, state)
    change_class_(model, SparseConvNeXt, state)


def equip_(model: nn.Module, sparsity: Sparsity, step: ResolvedStep, *, seed: int) -> None:
    """Build the fast paths of a step, with the initial layer scale of the model."""
    scale = float(getattr(model, "layer_scale_init", _LAYER_SCALE))
    add_fast_paths_(model, sparsity, step, seed=seed, eps=predictor_eps, scale=scale)


def complete_plan(model: nn.Module, sparsity: Sparsity, resolved: tuple[ResolvedStep, ...], plan: Plan) -> Plan:
    """Add the fast path of each block to a plan."""
    return replace(plan, fast_paths=planned_fast_paths(sparsity, resolved))


def blocks(model: Any) -> list[tuple[int, int]]:
    """Stage and block of every block, in order of execution."""
    return [(stage, block) for stage, part in enumerate(model.stages) for block in range(len(part.blocks))]


def block(model: Any, stage: int, block: int) -> nn.Module:
    """One block."""
    found: nn.Module = model.stages[stage].blocks[block]
    return found


def patches(model: nn.Module, entering: Tensor) -> Tensor:
    """The positions of the input of a block, `B x N x C`."""
    return entering.flatten(2).transpose(1, 2)


def embed(model: Any, x_BCHW: Tensor) -> Tensor:
    """Run the stem, up to the first feature map."""
    map_BCHW: Tensor = model.stem(x_BCHW)
    return map_BCHW


def run(model: Any, x: Tensor, blocks: Sequence[tuple[int, int]], call: Call | None) -> Tensor:
    """Run consecutive blocks, and the downsampling before each stage."""
    options: dict[str, Any] = {} if call is None else {"call": call}
    for stage, index in blocks:
        if index == 0:
            x = model.stages[stage].downsample(x)
        x = model.stages[stage].blocks[index](x, **options)
    return x


def finish(model: Any, x: Tensor, call: Call | None) -> Tensor:
    """Run everything after the last block, up to the logits."""
    features = model.norm_pre(x)
    if isinstance(call, GridCall):
        call.finish(_final(model, features, call))
    logits: Tensor = model.forward_head(features)
    return logits


def _final(model: Any, features_BCHW: Tensor, call: GridCall) -> Tensor | None:
    """The positions after the head's norm, which timm applies after pooling, if requested."""
    if not call.options.keep_final_tokens:
        return None
    is_normed = not isinstance(model.head, NormMlpClassifierHead)
    final_BCHW = features_BCHW if is_normed else model.head.norm(features_BCHW)
    final_BNC: Tensor = final_BCHW.flatten(2).transpose(1, 2)
    return final_BNC


def _feed_forward(block: Any, x_RC: Tensor) -> Tensor:
    """Norm, feed-forward network and layer scale of timm's block, applied to rows."""
    if block.use_conv_mlp:
        x_1CR1 = x_RC.t()[None, :, :, None]
        y_RC = block.mlp(block.norm(x_1CR1))[0, :, :, 0].t()
    else:
        y_RC = block.mlp(block.norm(x_RC))
    scaled_RC: Tensor = y_RC if block.gamma is None else y_RC * block.gamma
    return scaled_RC

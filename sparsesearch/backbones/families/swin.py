"""The Swin family: timm's models, sparsified in place by a fast path parallel to the feed-forward network.

Window attention is always dense; everything after it operates on rows, each on one path.

Shapes: `B` batch, `H` and `W` height and width of a grid, `C` channels, `R` rows of the whole batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from timm.models.swin_transformer import SwinTransformer
from torch import Tensor, nn

from sparsesearch.backbones.class_change import (
    SparseModel,
    SparseSequential,
    SparseStage,
    change_class_,
    check_forward,
)
from sparsesearch.backbones.grid_blocks import SparseGridBlock, add_fast_paths_, planned_fast_paths
from sparsesearch.backbones.sparsity import Sparsity
from sparsesearch.backbones.swin_geometry import geometry, token_geometry
from sparsesearch.schedule import ResolvedStep
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.grid_call import GridCall, Pair, merge
from sparsesearch.sparsify.model_plan import Plan
from sparsesearch.sparsify.paths import Split
from sparsesearch.sparsify.state import SparsityState

DESCRIPTION = "Swin"
TIMM_MODULES = ("timm.models.swin_transformer",)
ALIASES = {
    "swin_t": "swin_tiny_patch4_window7_224",
    "swin_tiny": "swin_tiny_patch4_window7_224",
    "swin_s": "swin_small_patch4_window7_224",
    "swin_small": "swin_small_patch4_window7_224",
    "swin_b": "swin_base_patch4_window7_224",
    "swin_base": "swin_base_patch4_window7_224",
}


__all__ = [
    "CALL", "block", "blocks", "check_step", "complete_plan", "embed", "equip_", "finish", "geometry", "matches",
    "patch_", "patches", "predictor_eps", "run", "token_geometry",
]  # fmt: skip

CALL = GridCall
predictor_eps = 1e-5


class SparseSwin(SparseModel):
    """Mixin for the model's class."""

    sparsity_container = "layers"

    def forward_features(self, x: Tensor, *, call: GridCall | None = None) -> Tensor:
        """As in timm, in the given call or one of its own."""
        model: Any = self
        call = self.sparsity_call(call)
        features: Tensor = model.norm(model.layers(model.patch_embed(x), call=call))
        call.finish(_final(features, call))
        return self.sparsity_tied(features, call)


class SparseSwinBlock(SparseGridBlock):
    """Mixin for the class of every block."""

    def sparsity_gathered(self, split: Split, fast: nn.Module | None, x_BHWC: Tensor) -> Tensor:
        """Run a block with each position on one path; the fast path is the identity if None."""
        block: Any = self
        x_BHWC = x_BHWC + block.drop_path1(block._attn(block.norm1(x_BHWC)))
        branch_RC = split.run(x_BHWC.flatten(0, 2), slow=lambda x_RC: block.mlp(block.norm2(x_RC)), fast=fast)
        y_BHWC: Tensor = x_BHWC + block.drop_path2(branch_RC.reshape(x_BHWC.shape))
        return y_BHWC

    def sparsity_both_paths(
        self, fast: nn.Module | None, x_BHWC: Tensor, slow_BHWC: Tensor, fast_BHWC: Tensor, mask_BN: Tensor
    ) -> Pair:
        """Continue each path from the attention output of the merged map.

        Source: Dynamic Spatial Sparsification (arXiv:2207.01580), section 3.3 and its published code.
        """
        block: Any = self
        x_BHWC = x_BHWC + block.drop_path1(block._attn(block.norm1(x_BHWC)))

        def branch(path: Callable[[Tensor], Tensor], z_BHWC: Tensor) -> Tensor:
            kept: Tensor = block.drop_path2(path(z_BHWC))
            return kept

        entry_BHWC = merge((fast_BHWC, x_BHWC), mask_BN)
        slow_BHWC = x_BHWC + branch(lambda z: block.mlp(block.norm2(z)), merge((x_BHWC, slow_BHWC), mask_BN))
        return slow_BHWC, x_BHWC if fast is None else x_BHWC + branch(fast, entry_BHWC)


def matches(model: nn.Module) -> bool:
    """Whether the model is of this family."""
    return isinstance(model, SwinTransformer)


def check_step(model: Any, step: ResolvedStep) -> None:
    """Do nothing: every resolved step can be run."""


def patch_(model: Any, state: SparsityState) -> None:
    """Change the classes of a model, its stages and blocks."""
    check_forward(model, SwinTransformer)
    for index, stage in enumerate(model.layers):
        for number, block in enumerate(stage.blocks):
            change_class_(block, SparseSwinBlock, state, sparsity_block=(index, number))
        change_class_(stage.blocks, SparseSequential, state)
        change_class_(stage, SparseStage, state)
    change_class_(model.layers, SparseSequential, state)
    change_class_(model, SparseSwin, state)


def equip_(model: nn.Module, sparsity: Sparsity, step: ResolvedStep, *, seed: int) -> None:
    """Build the fast paths of a step; they have no layer scale, as Swin has none."""
    add_fast_paths_(model, sparsity, step, seed=seed, eps=predictor_eps, scale=None)


def complete_plan(model: nn.Module, sparsity: Sparsity, resolved: tuple[ResolvedStep, ...], plan: Plan) -> Plan:
    """Add the fast path of each block to a plan."""
    return replace(plan, fast_paths=planned_fast_paths(sparsity, resolved))


def blocks(model: Any) -> list[tuple[int, int]]:
    """Stage and block of every block, in order of execution."""
    return [(stage, block) for stage, layer in enumerate(model.layers) for block in range(len(layer.blocks))]


def block(model: Any, stage: int, block: int) -> nn.Module:
    """One block."""
    found: nn.Module = model.layers[stage].blocks[block]
    return found


def patches(model: nn.Module, entering: Tensor) -> Tensor:
    """The positions of the input of a block, `B x N x C`."""
    return entering.flatten(1, 2)


def embed(model: Any, x_BCHW: Tensor) -> Tensor:
    """Run the patch embedding, up to the first feature map."""
    map_BHWC: Tensor = model.patch_embed(x_BCHW)
    return map_BHWC


def run(model: Any, x: Tensor, blocks: Sequence[tuple[int, int]], call: Call | None) -> Tensor:
    """Run consecutive blocks, and the patch merging before each stage."""
    options: dict[str, Any] = {} if call is None else {"call": call}
    for stage, index in blocks:
        if index == 0:
            x = model.layers[stage].downsample(x)
        x = model.layers[stage].blocks[index](x, **options)
    return x


def finish(model: Any, x: Tensor, call: Call | None) -> Tensor:
    """Run everything after the last block, up to the logits."""
    features = model.norm(x)
    if isinstance(call, GridCall):
        call.finish(_final(features, call))
    logits: Tensor = model.forward_head(features)
    return logits


def _final(features_BHWC: Tensor, call: GridCall) -> Tensor | None:
    """The final positions, if requested."""
    return features_BHWC.flatten(1, 2) if call.options.keep_final_tokens else None

"""Common code of the geometries of hierarchical families."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from timm.layers.classifier import ClassifierHead, NormMlpClassifierHead
from torch import nn

from sparsesearch.backbones.sparsity import describe_class
from sparsesearch.backbones.vit_geometry import dense_params, stem_macs
from sparsesearch.errors import BackboneError
from sparsesearch.schedule.geometry import BackboneGeometry, Mixer, StageGeometry


def unpriced(name: str, image_size: tuple[int, int], stages: Iterable[StageGeometry]) -> BackboneGeometry:
    """Blocks and grids, sufficient to resolve schedules but not to price them: all MACs are 0.

    Args:
        name: Name of the model.
        image_size: Height and width in pixels.
        stages: Results of `unpriced_stage`.
    """
    return BackboneGeometry(name=name, image_size=image_size, stages=tuple(stages), stem_macs=0, head_macs=0, params=0)


def unpriced_stage(*, depth: int, dim: int, grid: tuple[int, int], mixer: Mixer, num_heads: int = 0) -> StageGeometry:
    """A stage without prefix tokens and without multiply-adds."""
    return StageGeometry(
        depth=depth,
        dim=dim,
        attn_dim=0,
        num_heads=num_heads,
        mlp_dim=1,
        grid=grid,
        num_prefix_tokens=0,
        has_class_token=False,
        mixer=mixer,
    )


def priced(
    bare: BackboneGeometry, model: Any, name: str, *, stem: nn.Module, stages: Iterable[StageGeometry]
) -> BackboneGeometry:
    """Add the multiply-adds of stem, stages and head to a geometry.

    Args:
        bare: Result of `unpriced`.
        model: The model, sparse or not.
        name: Its resolved name.
        stem: The layers before the first stage.
        stages: The stages with their costs.

    Raises:
        BackboneError: Stem or head cannot be priced.
    """
    return bare.model_copy(
        update={
            "name": name,
            "stages": tuple(stages),
            "stem_macs": stem_macs(stem, bare.image_size, name),
            "head_macs": head_macs(model.head, name),
            "params": dense_params(model),
        }
    )


def costs_of_stage(costs: Iterable[dict[str, int]], name: str) -> dict[str, int]:
    """The costs of one block of a stage, which must be equal for all of its blocks.

    Args:
        costs: Fields of `StageGeometry` for each block.
        name: Name of the model, for the error message.

    Raises:
        BackboneError: The blocks differ.
    """
    first, *others = costs
    if any(other != first for other in others):
        raise BackboneError(
            f"the blocks of a stage of {name} differ in width; only blocks of equal width can be priced"
        )
    return first


def head_macs(head: nn.Module, name: str) -> int:
    """Multiply-adds after the pooling of timm's classifier heads.

    Raises:
        BackboneError: The head does not pool, or is not supported.
    """
    if not isinstance(head, ClassifierHead | NormMlpClassifierHead):
        raise BackboneError(f"{name} has a {describe_class(head)} as its head, which cannot be priced")
    if head.global_pool.is_identity():
        raise BackboneError(f'{name} has no pooling (global_pool=""); build it with global_pool="avg"')
    layers = [module for module in head.modules() if isinstance(module, nn.Linear)]
    return sum(layer.in_features * layer.out_features for layer in layers)

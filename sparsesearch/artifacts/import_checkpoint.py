"""Import checkpoints that were trained elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor, nn

from sparsesearch.artifacts.checkpoint import ModelCard
from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.reference_keys import new_names, num_predictors, squeezed
from sparsesearch.backbones.registry import create_model, geometry, resolve_name
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.errors import CheckpointError
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import is_learned
from sparsesearch.training.checkpoints import read_foreign_weights

_SHOWN = 20
_HEADS = ("head.fc.weight", "head.weight")


@dataclass(frozen=True, eq=False)
class Imported:
    """A model with the weights of a foreign checkpoint.

    Attributes:
        model: The model, its schedule applied.
        card: Metadata for its file.
        geometry: Geometry of its backbone.
        num_params: Parameters, predictors and fast paths included.
        dense_macs: Multiply-adds of one image through the dense model.
    """

    model: nn.Module
    card: ModelCard
    geometry: BackboneGeometry
    num_params: int
    dense_macs: int


def import_checkpoint(
    path: Path, *, backbone: str, rho: float | None = None, schedule: Schedule | None = None, ema: bool = False
) -> Imported:
    """Build a model from a foreign checkpoint, whose parameters must all match.

    Args:
        path: A training checkpoint or a state dict, saved by torch or safetensors.
        backbone: Backbone name; its head gets as many classes as the checkpoint has.
        rho: Keep ratio of a model with the schedule of the DynamicViT papers.
        schedule: Any other schedule; without `rho` and `schedule`, the checkpoint is of a dense model.
        ema: Use the averaged weights (`model_ema`), not the trained ones.

    Raises:
        BackboneError: The backbone is unknown.
        CheckpointError: The file cannot be read, or does not fit the backbone and the schedule.
        ScheduleError: The backbone does not support the schedule.
    """
    assert rho is None or schedule is None
    name = resolve_name(backbone)
    weights = read_foreign_weights(path, ema=ema)
    model = create_model(name, num_classes=_num_classes(weights))
    shape = geometry(model, name)
    is_sparse = rho is not None or schedule is not None
    if rho is not None:
        schedule = paper_schedule(shape, rho)
    schedule = (schedule or Schedule()).canonical(shape)
    blocks = [step.block for step in schedule.steps if is_learned(step.scorer)]
    _check_predictors(path, num_predictors(weights), blocks, name=name, is_sparse=is_sparse)
    if schedule.steps:
        sparsify_(model, schedule)
    _load(model, weights, blocks=blocks, source=f"{path} does not fit {name}")
    cost = AnalyticCost()
    card = ModelCard(
        backbone=name,
        schedule=schedule,
        num_classes=_num_classes(model.state_dict()) or 0,
        in_chans=next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d)),
        image_size=shape.image_size[0],
        macs=cost.estimate(shape, schedule).macs,
    )
    return Imported(
        model=model.eval(),
        card=card,
        geometry=shape,
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        dense_macs=cost.estimate(shape, Schedule()).macs,
    )


def _num_classes(weights: Mapping[str, Tensor]) -> int | None:
    """Return the number of classes of the head, None without a head."""
    for head in _HEADS:
        if head in weights and weights[head].ndim == 2:
            return weights[head].shape[0]
    return None


def _check_predictors(path: Path, found: int, blocks: Sequence[int], *, name: str, is_sparse: bool) -> None:
    """Check that the file has as many predictors as the schedule."""
    if found == len(blocks):
        return
    if not is_sparse:
        raise CheckpointError(
            f"{path} has {found} predictors, so it is a sparse {name}; give its schedule with --rho 0.7 or "
            "--schedule FILE"
        )
    if not found:
        raise CheckpointError(
            f"{path} has no predictors, but the schedule has {len(blocks)}; leave out --rho and --schedule to import a "
            "dense model"
        )
    where = f" (blocks {', '.join(map(str, blocks))})" if blocks else ""
    raise CheckpointError(
        f"{path} has {found} predictors, but the schedule drops tokens at {len(blocks)} locations{where}; give the "
        "schedule that it was trained with"
    )


def _load(model: nn.Module, weights: Mapping[str, Tensor], *, blocks: Sequence[int], source: str) -> None:
    """Load all weights into a model."""
    renamed = new_names(weights, blocks=blocks)
    tensors = {new: squeezed(new, weights[old]) for old, new in renamed.items() if new is not None}
    load_weights_(
        model,
        tensors,
        source=source,
        names={new: old for old, new in renamed.items() if new is not None},
        fix="give the backbone and the schedule that it was trained with",
    )

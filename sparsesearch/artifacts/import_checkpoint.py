"""Import checkpoints that were trained elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from sparsesearch.artifacts.checkpoint import ModelCard
from sparsesearch.backbones.fit_weights import fit_weights, options_of
from sparsesearch.backbones.meta import without_weights
from sparsesearch.backbones.reference_keys import num_predictors
from sparsesearch.backbones.registry import create_model, geometry, resolve_name
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.backbones.weight_changes import first_convolutions
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.errors import CheckpointError
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.image_size import ImageSize, as_image_size
from sparsesearch.schedule.methods import is_learned
from sparsesearch.training.foreign_weights import read_foreign_weights


@dataclass(frozen=True, eq=False)
class Imported:
    """A model with the weights of a foreign checkpoint.

    Attributes:
        model: The model, its schedule applied.
        card: Metadata for its file.
        geometry: Geometry of its backbone.
        num_params: Parameters, predictors and fast paths included.
        dense_macs: Multiply-adds of one image through the dense model.
        loaded: What was loaded, in one line.
    """

    model: nn.Module
    card: ModelCard
    geometry: BackboneGeometry
    num_params: int
    dense_macs: int
    loaded: str


def import_checkpoint(
    path: Path,
    *,
    backbone: str,
    rho: float | None = None,
    schedule: Schedule | None = None,
    ema: bool | None = None,
    image_size: ImageSize | None = None,
) -> Imported:
    """Build a model from a foreign checkpoint, whose parameters must all match.

    Args:
        path: A training checkpoint or a state dict, saved by torch or safetensors, or a folder with one.
        backbone: Backbone name; its head gets as many classes as the checkpoint has, its stem as many channels.
        rho: Keep ratio of a model with the schedule of the DynamicViT papers.
        schedule: Any other schedule; without `rho` and `schedule`, the checkpoint is of a dense model.
        ema: True requires averaged weights, False ignores them, None prefers them.
        image_size: Pixels; None for the default of the backbone. A position grid of another size is resampled.

    Raises:
        BackboneError: The backbone is unknown.
        CheckpointError: The file cannot be read, or does not fit the backbone and the schedule.
        ScheduleError: The backbone does not support the schedule.
    """
    assert rho is None or schedule is None
    name = resolve_name(backbone)
    read = read_foreign_weights(path, ema=ema)
    with without_weights():
        num_classes, in_chans = options_of(create_model(name), read.tensors)
    model = create_model(name, num_classes=num_classes, in_chans=in_chans, image_size=image_size)
    shape = geometry(model, name)
    is_sparse = rho is not None or schedule is not None
    if rho is not None:
        schedule = paper_schedule(shape, rho)
    schedule = (schedule or Schedule()).canonical(shape)
    blocks = [step.block for step in schedule.steps if is_learned(step.scorer)]
    _check_predictors(path, num_predictors(read.tensors), blocks, name=name, is_sparse=is_sparse)
    if schedule.steps:
        sparsify_(model, schedule)
    fitted = fit_weights(model, read.tensors, source=read.source, blocks=blocks, outside=read.outside, needs_head=True)
    fitted.load_into(model, fix="give the backbone and the schedule that it was trained with")
    cost = AnalyticCost()
    card = ModelCard(
        backbone=name,
        schedule=schedule,
        num_classes=int(getattr(model, "num_classes", 0)),
        in_chans=next(module.in_channels for module in first_convolutions(model).values()),
        image_size=as_image_size(shape.image_size),
        macs=cost.estimate(shape, schedule).macs,
    )
    return Imported(
        model=model.eval(),
        card=card,
        geometry=shape,
        num_params=sum(parameter.numel() for parameter in model.parameters()),
        dense_macs=cost.estimate(shape, Schedule()).macs,
        loaded=f"weights: {fitted.describe()}",
    )


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

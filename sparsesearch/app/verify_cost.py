"""Compare the closed form of a cost with two counters that run the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from sparsesearch.artifacts.model_reference import ModelReference
from sparsesearch.backbones.meta import without_weights
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.traced import fvcore_macs, traced_macs
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.data.task import Task
from sparsesearch.errors import BackboneError
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.image_size import sides


@dataclass(frozen=True)
class Count:
    """The multiply-adds of one image, by one way of counting.

    Attributes:
        name: The counter.
        macs: The count, or None if it is not available.
        note: Why it is not available.
    """

    name: str
    macs: int | None
    note: str | None = None


def verify_cost(reference: ModelReference) -> tuple[Count, ...]:
    """Count the multiply-adds of a sparse model in closed form, by torch and by fvcore.

    The counters run one image through the model with random weights, which do not affect counts. fvcore ignores
    normalization, which the closed form does not count, and runs with fused attention off.

    Args:
        reference: Backbone and schedule.
    """
    geometry = reference.geometry
    closed = AnalyticCost().estimate(geometry, reference.schedule).macs
    model = reference.dense_model()
    sparsify_(model, reference.schedule)
    in_chans = next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
    image = torch.zeros(1, in_chans, *geometry.image_size)
    counts = [Count("closed form", closed)]
    for name, count in (("torch FlopCounterMode", traced_macs), ("fvcore", fvcore_macs)):
        try:
            counts.append(Count(name, count(model.eval(), image)))
        except BackboneError as error:
            counts.append(Count(name, None, str(error)))
    return tuple(counts)


def check_count(backbone: str, schedule: Schedule, *, task: Task, expected: int) -> None:
    """Count a model without weights operation by operation, and compare it with the closed form."""
    with without_weights():
        model = create_model(backbone, num_classes=task.num_classes, in_chans=task.in_chans, image_size=task.image_size)
    sparsify_(model, schedule)
    counted = traced_macs(model.eval(), torch.empty(1, task.in_chans, *sides(task.image_size), device="meta"))
    assert counted == expected, f"closed form {expected} and traced count {counted} differ"

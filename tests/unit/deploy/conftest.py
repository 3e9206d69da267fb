"""Small models with schedules of every kind, exported once."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from sparsesearch import sparsify_
from sparsesearch.artifacts.checkpoint import ImagePreprocessing, ModelCard
from sparsesearch.backbones.lookup import backbone_geometry
from sparsesearch.backbones.registry import create_model
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.deploy.exported import Exported, export
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import ClassAttentionScorer, Fuse, Merge, RandomScorer, SpotScorer

DYNAMICVIT, EVIT, TOME, SPOT, RANDOM, PATHS = "dynamicvit", "evit", "tome", "spot", "random", "paths"
SCHEDULES = {
    EVIT: Schedule(steps=(Step(block=2, keep_ratio=0.6, scorer=ClassAttentionScorer(), reducer=Fuse()),)),
    TOME: Schedule(
        steps=tuple(Step(block=i, keep_ratio=1.0 - 0.15 * i, scorer=None, reducer=Merge()) for i in (1, 2, 3))
    ),
    SPOT: Schedule(steps=(Step(block=3, keep_ratio=0.5, scorer=SpotScorer()),)),
    RANDOM: Schedule(steps=(Step(block=2, keep_ratio=0.5, scorer=RandomScorer(seed=3)),)),
}
KINDS = [
    ("deit_pico", DYNAMICVIT),
    ("deit_pico", EVIT),
    ("deit_pico", TOME),
    ("deit_pico", SPOT),
    ("deit_pico", RANDOM),
    ("lvvit_pico", DYNAMICVIT),
    ("swin_pico", PATHS),
    ("convnext_pico", PATHS),
]


def made(backbone: str, kind: str) -> tuple[nn.Module, ModelCard]:
    """A model with random weights, and its card."""
    geometry = backbone_geometry(backbone)
    schedule = SCHEDULES.get(kind) or paper_schedule(geometry, 0.7)
    model = create_model(backbone, seed=1)
    sparsify_(model, schedule, seed=1)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():  # scorers that tell tokens apart
        for name, parameter in model.named_parameters():
            parameter.add_((0.3 if "sparsity" in name else 0.02) * torch.randn(parameter.shape, generator=generator))
    cost = AnalyticCost()
    card = ModelCard(
        backbone=backbone,
        schedule=schedule,
        num_classes=10,
        in_chans=1,
        image_size=32,
        class_names=tuple("abcdefghij"),
        preprocessing=ImagePreprocessing(mean=(0.2,), std=(0.4,), interpolation="bicubic", crop_pct=1.0),
        metrics={"test_top1": 0.5},
        macs=cost.estimate(geometry, schedule).macs,
        dense_macs=cost.estimate(geometry, Schedule()).macs,
    )
    return model.eval(), card


@pytest.fixture(params=KINDS, ids="-".join, scope="module")
def exported(request: pytest.FixtureRequest) -> Exported:
    model, card = made(*request.param)
    return export(model, card, accuracy="not checked")


@pytest.fixture(scope="module")
def one() -> Exported:
    return export(*made("deit_pico", DYNAMICVIT), accuracy="not checked")

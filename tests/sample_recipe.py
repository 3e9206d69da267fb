"""A recipe of deit_pico on the bundled task."""

from __future__ import annotations

from sparsesearch.artifacts.recipe import Measured, Provenance, Recipe
from sparsesearch.backbones.lookup import backbone_geometry
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule
from sparsesearch.study.spec import DataSpec, TrainSpec

BACKBONE = "deit_pico"


def sample_recipe(*, training: TrainSpec, dense: TrainSpec | None = None) -> Recipe:
    """A recipe with two steps; the dense model is trained like the sparse one unless `dense` is given."""
    geometry = backbone_geometry(BACKBONE)
    schedule = Schedule.at([3, 5], [0.5, 0.25])
    cost = AnalyticCost().estimate(geometry, schedule)
    return Recipe(
        backbone=BACKBONE,
        schedule=schedule,
        data=DataSpec(),
        num_classes=10,
        image_size=32,
        in_chans=1,
        weights="scratch",
        dense=dense or training,
        training=training,
        precision="float32",
        seed=0,
        measured=Measured(
            fidelity="finetune",
            macs=cost.macs,
            dense_macs=AnalyticCost().estimate(geometry, Schedule()).macs,
            params=cost.params,
            metrics={},
            dense_metrics={},
        ),
        provenance=Provenance(
            study="s",
            trial=1,
            label="search",
            schedule_key="k",
            data_fingerprint="f",
            sparsesearch="0",
            torch="0",
            timm="0",
        ),
    )

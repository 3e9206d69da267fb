"""Full-size models in ONNX Runtime, torch.export and AOTInductor: the tokens they keep, their logits, gain kept.

    OMP_NUM_THREADS=1 python benchmarks/deploy_full_size.py --out docs/results/deploy_full_size.jsonl \
        [--models NAME ...] [--formats onnx pt2 aoti]

Random weights, which change neither speed nor what is checked: kept tokens and logits at batch sizes 1, 3 and 8 on
images whose tokens do not hang on the last digits of a float. Times are those of one thread, dense and sparse in turn,
in the same format; *gain kept* is (speed-up - 1) / (ratio of multiply-adds - 1). A line is written for each model
and format; what is there is not repeated.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import torch

from sparsesearch import sparsify_
from sparsesearch.artifacts.checkpoint import ModelCard
from sparsesearch.backbones.lookup import backbone_geometry, resolve_name
from sparsesearch.backbones.registry import create_model
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.deploy import check
from sparsesearch.deploy.exported import Exported, export
from sparsesearch.deploy.format import Run, all_formats
from sparsesearch.deploy.formats import onnx
from sparsesearch.deploy.speed import time_runs
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.image_size import as_image_size
from sparsesearch.schedule.methods import ClassAttentionScorer, Fuse, Merge, SpotScorer

THIRDS = (3, 6, 9)
MODELS: dict[str, tuple[str, Schedule | None]] = {
    "deit_s rho 0.7": ("deit_s", None),
    "deit_s SPOT": ("deit_s", Schedule(steps=tuple(Step(block=b, keep_ratio=0.7**i, scorer=SpotScorer()) for i, b in enumerate(THIRDS, 1)))),  # noqa: E501
    "deit_s EViT": ("deit_s", Schedule(steps=tuple(Step(block=b, keep_ratio=0.7**i, scorer=ClassAttentionScorer(), reducer=Fuse()) for i, b in enumerate(THIRDS, 1)))),  # noqa: E501
    "deit_s ToMe": ("deit_s", Schedule(steps=tuple(Step(block=b, keep_ratio=1.0 - 13 * b / 196, scorer=None, reducer=Merge()) for b in range(1, 12)))),  # noqa: E501
    "lvvit_s rho 0.7": ("lvvit_s", None),
    "convnext_t rho 0.7": ("convnext_t", None),
    "swin_t rho 0.7": ("swin_t", None),
}  # fmt: skip


def exported(backbone: str, schedule: Schedule | None) -> Exported:
    """A full-size model with random weights."""
    name = resolve_name(backbone)
    geometry = backbone_geometry(name)
    chosen = paper_schedule(geometry, 0.7) if schedule is None else schedule
    model = create_model(name, seed=0)
    sparsify_(model, chosen)
    cost = AnalyticCost()
    card = ModelCard(
        backbone=name,
        schedule=chosen,
        num_classes=1000,
        in_chans=3,
        image_size=as_image_size(geometry.image_size),
        macs=cost.estimate(geometry, chosen).macs,
        dense_macs=cost.estimate(geometry, Schedule()).macs,
    )
    return export(model.eval(), card, accuracy="random weights")


def row(name: str, kind: str) -> dict[str, Any]:
    """One line: checks, and times next to the dense model."""
    backbone, schedule = MODELS[name]
    one, dense = exported(backbone, schedule), exported(backbone, Schedule())
    each = all_formats()[kind]
    with tempfile.TemporaryDirectory() as folder:
        paths = {part: Path(folder) / f"{part}-{each.FILE}" for part in ("sparse", "kept", "dense")}
        each.write(one, paths["sparse"])
        each.write(one, paths["kept"], with_kept=True)
        each.write(dense, paths["dense"])
        opened = {
            part: onnx.open(path, threads=1) if kind == "onnx" else each.open(path) for part, path in paths.items()
        }
        images = check.clear_images(one.model, [one.example(batch=8), one.example(batch=64)[8:]], count=8)
        difference = check.check_outputs(name, one.model, images, run=opened["sparse"], run_kept=opened["kept"])
        runs: dict[str, Run] = {"dense": opened["dense"], "sparse": opened["sparse"]}
        times = time_runs(runs, one.example(batch=8), seconds=20.0)
    assert one.card.dense_macs is not None
    of_macs = one.card.dense_macs / one.card.macs
    speed_up = {str(batch): measured.ratio("dense", to="sparse") for batch, measured in times.items()}
    return {
        "model": name,
        "format": kind,
        "largest_difference_of_a_logit": difference,
        "macs_ratio": of_macs,
        "speed_up": speed_up,
        "gain_kept": {batch: (ratio - 1.0) / (of_macs - 1.0) for batch, ratio in speed_up.items()},
        "dense_median_ms": {str(batch): measured.latencies["dense"].median_ms for batch, measured in times.items()},
        "busy": any(measured.is_busy for measured in times.values()),
    }


def main() -> None:
    """Write the rows that are missing."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=list(MODELS))
    parser.add_argument("--formats", nargs="+", default=["onnx", "pt2", "aoti"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    check.BATCHES = (1, 3, 8)
    lines = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    done = {(one["model"], one["format"]) for one in map(json.loads, lines)}
    for name in options.models:
        for kind in options.formats:
            if (name, kind) not in done:
                found = row(name, kind)
                print(json.dumps(found), flush=True)
                with options.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()

"""Seconds from `retrain` to its first training step on a folder of ImageNet's shape, with nothing known, and again.

    OMP_NUM_THREADS=1 python benchmarks/first_training_step.py /tmp/imagenet_shaped/data [--drop-caches]

The folder is made by `data_path.py`. Each measurement is a new process with the whole command: imports, opening the
data, checking weights and counts, building student and teacher, starting loader processes, and one optimizer step.
`--drop-caches` (root only) empties the kernel's caches of files before the first.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data_path import empty_caches

CHILD = """
import os, sys, time
from pathlib import Path
from sparsesearch.artifacts.recipe import Measured, Provenance, Recipe, write_recipe
from sparsesearch.backbones.lookup import resolve_name, backbone_geometry
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule
from sparsesearch.study.spec import DataSpec, TrainSpec
from sparsesearch.training.updates import Updates

folder, name, batch_size, out = sys.argv[1:]
backbone = resolve_name(name)
geometry, schedule = backbone_geometry(backbone), Schedule.at([3, 6, 9], [0.7, 0.49, 0.343])
cost, training = AnalyticCost().estimate(geometry, schedule), TrainSpec(epochs=1, batch_size=int(batch_size))
recipe = Recipe(
    backbone=backbone, schedule=schedule, data=DataSpec(source=f"folder:{folder}"), num_classes=1000, image_size=224,
    in_chans=3, weights=f"{out}/weights.safetensors", dense=training, training=training, precision="float32", seed=0,
    measured=Measured(
        fidelity="finetune", macs=cost.macs, dense_macs=AnalyticCost().estimate(geometry, Schedule()).macs,
        params=cost.params, metrics={}, dense_metrics={},
    ),
    provenance=Provenance(
        study="first", trial=1, label="search", schedule_key="", data_fingerprint="", sparsesearch="0", torch="0",
        timm="0",
    ),
)
write_recipe(recipe, Path(out) / "best.yaml")
step = Updates.update
def last_step(*arguments, **options):
    step(*arguments, **options)
    print(f"now {time.time()}", flush=True)
    os._exit(0)
Updates.update = last_step
sys.argv = ["sparsesearch", "retrain", f"{out}/best.yaml", "-o", f"{out}/model.safetensors", "--no-mlflow", "--quiet"]
from sparsesearch.cli import main
main()
"""
WEIGHTS = """
import sys
from safetensors.torch import save_file
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.backbones.registry import create_model
model = create_model(resolve_name(sys.argv[1]), num_classes=7, in_chans=3, image_size=224, seed=0)
save_file(model.state_dict(), sys.argv[2])
"""


def seconds_to_first_step(folder: Path, *, backbone: str, batch_size: int, out: Path, home: Path) -> float:
    """Seconds from the start of a process to the end of its first optimizer step."""
    sources = Path(__file__).resolve().parents[1]
    environment = os.environ | {"PYTHONPATH": str(sources), "SPARSESEARCH_HOME": str(home)}
    command = [sys.executable, "-c", CHILD, str(folder), backbone, str(batch_size), str(out)]
    started = time.time()
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout.split()[-1]) - started


def main() -> None:
    """Measure with an empty home, and again."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="deit_s")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--again", type=int, default=3)
    parser.add_argument("--drop-caches", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as out, tempfile.TemporaryDirectory() as home:
        weights = Path(out) / "weights.safetensors"
        subprocess.run([sys.executable, "-c", WEIGHTS, arguments.backbone, str(weights)], check=True)
        if arguments.drop_caches:
            empty_caches()
        for number in range(1 + arguments.again):
            seconds = seconds_to_first_step(
                arguments.folder,
                backbone=arguments.backbone,
                batch_size=arguments.batch_size,
                out=Path(out),
                home=Path(home),
            )
            print(f"{'again' if number else 'with nothing known'}: {seconds:.1f} s", flush=True)


if __name__ == "__main__":
    main()

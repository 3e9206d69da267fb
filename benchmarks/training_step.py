"""Time of a training step: this checkout next to another commit, in turn, and the parts of a step.

    OMP_NUM_THREADS=1 python benchmarks/training_step.py --against COMMIT [--backbone deit_tiny_patch16_224]
    python benchmarks/training_step.py --device cuda --precision bfloat16 --batch-size 256 --backbone deit_s

Two processes, one per side, take a few steps in turn on the same images, which are in memory. `dense` trains the dense
model; `gathered` and `masked` train a student with three reductions next to its teacher; `supernet` trains shared
weights. With `--compile`, this checkout is also measured with a compiled teacher. On a GPU, images per second are
printed as well.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from data_path import checkout

KINDS = ("dense", "gathered", "masked", "supernet")
CHILD = """
import json, sys, time
from dataclasses import replace
import torch
from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import task_geometry
from sparsesearch.data.task import Batch
from sparsesearch.schedule import Schedule
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.kinds import TrainingContext, dense_training, sparse_training, supernet_training
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.teacher import Teacher

asked = json.loads(sys.argv[1])
torch.manual_seed(0)
device = torch.device(asked["device"])
arithmetic = Arithmetic.of(asked["precision"], device=device)
if asked["compile"]:
    arithmetic = replace(arithmetic, compiles=True)
backbone, size = resolve_name(asked["backbone"]), asked["batch_size"]
small = "pico" in backbone
task = DigitsTask(image_size=32, in_chans=1) if small else DigitsTask(image_size=224, in_chans=3)
context = TrainingContext(backbone, task_geometry(backbone, task), task, arithmetic, seed=0)
depth = sum(stage.depth for stage in context.geometry.stages)
spec = TrainSpec(epochs=10**6, images_per_epoch=size, batch_size=size)
if asked["kind"] == "masked":
    spec = spec.model_copy(update={"method": "masked"})
if asked["kind"] == "dense":
    training = dense_training(context, spec, weights="scratch", seed=0)
else:
    dense = context.fresh_model().state_dict()
    teacher = Teacher(context.model_with(dense), task, arithmetic=arithmetic, use_pool=False)
    if asked["kind"] == "supernet":
        space = SearchSpace(blocks=(depth // 4, depth // 2, 3 * depth // 4)).resolve(context.geometry)
        training = supernet_training(context, spec, space=space, dense=dense, teacher=teacher, seed=0)
    else:
        schedule = Schedule.at([depth // 4, depth // 2, 3 * depth // 4], [0.7, 0.49, 0.34])
        training = sparse_training(
            context, spec, schedule=schedule, start=dense, teacher=teacher, seed=0, label="training"
        )
run = TrainingRun(training.model, training.spec, steps_per_epoch=1, arithmetic=arithmetic)
height, width = context.geometry.image_size
images = torch.randn(size, task.in_chans, height, width, generator=torch.Generator().manual_seed(0))
batch = Batch(images=images, labels=torch.arange(size) % task.num_classes)
for line in sys.stdin:
    seconds = []
    for _ in range(int(line)):
        start = time.perf_counter()
        run.epoch([batch], training.objective, seed=run.epochs_done, bar=Silent().bar("", 1))
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    print(json.dumps(seconds), flush=True)
"""


class Side:
    """A process that takes training steps when asked."""

    def __init__(self, sources: Path, asked: dict[str, Any]) -> None:
        environment = os.environ | {"PYTHONPATH": str(sources)}
        self._process = subprocess.Popen(
            [sys.executable, "-c", CHILD, json.dumps(asked)],
            cwd=sources,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def steps(self, count: int) -> list[float]:
        """Seconds of each of some steps."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(count, file=self._process.stdin, flush=True)
        seconds: list[float] = json.loads(self._process.stdout.readline())
        return seconds

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def compare(sides: dict[str, Side], *, rounds: int, steps: int) -> dict[str, list[float]]:
    """Median seconds of a step in each round, by side; a first round is a warm-up."""
    found: dict[str, list[float]] = {name: [] for name in sides}
    for number in range(rounds + 1):
        for name, side in sides.items():
            seconds = median(side.steps(steps))
            if number:
                found[name].append(seconds)
    return found


def main() -> None:
    """Measure every kind of training and print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--against", help="a commit to compare with")
    parser.add_argument("--backbone", default="deit_tiny_patch16_224")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32", choices=["float32", "bfloat16", "float16"])
    parser.add_argument("--kinds", nargs="+", default=["gathered"], choices=KINDS)
    parser.add_argument("--compile", action="store_true", help="also measure with a compiled teacher")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=3, help="steps of a round")
    arguments = parser.parse_args()
    with checkout(None) as ours, checkout(arguments.against) as theirs:
        for kind in arguments.kinds:
            asked = {
                "kind": kind,
                "backbone": arguments.backbone,
                "batch_size": arguments.batch_size,
                "device": arguments.device,
                "precision": arguments.precision,
                "compile": False,
            }
            sides = {"now": Side(ours, asked)}
            if arguments.against:
                sides["before"] = Side(theirs, asked)
            if arguments.compile:
                sides["compiled"] = Side(ours, asked | {"compile": True})
            found = compare(sides, rounds=arguments.rounds, steps=arguments.steps)
            for side in sides.values():
                side.close()
            for name, seconds in found.items():
                ratios = [mine / other for mine, other in zip(found["now"], seconds, strict=True)]
                print(
                    f"{kind:9s} {arguments.backbone} {arguments.precision} batch {arguments.batch_size} {name:8s} "
                    f"{1e3 * median(seconds):8.1f} ms (least {1e3 * min(seconds):.1f}), "
                    f"{arguments.batch_size / median(seconds):8.1f} images/s; now takes {median(ratios):.3f} of it "
                    f"({min(ratios):.3f} to {max(ratios):.3f})",
                    flush=True,
                )


if __name__ == "__main__":
    main()

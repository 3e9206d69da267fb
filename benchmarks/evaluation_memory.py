"""Resident memory of an evaluation at two numbers of validation images: `python benchmarks/evaluation_memory.py`.

DeiT-S with random weights (timm's `deit_small_patch16_224`) scores two schedules in one pass over random images of 224
pixels, in float32 on a CPU, once with each number of images, in a process of its own. The limit for prefix states is so
low that those of all images do not fit. Resident memory is compared before the model scores and at its peak; what
keeping the states of all images would take follows from their size.

Limits: random images, read from no disk; with an image folder, loader processes have memory of their own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import torch

from sparsesearch.backbones.registry import backbone_geometry, create_model
from sparsesearch.backbones.transforms import attach_
from sparsesearch.data.task import Batch
from sparsesearch.evaluate.evaluation_memory import EvaluationMemory, state_bytes
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import DynamicVitScorer, Prune
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.scoring import PrefixCachedScorer, eval_batch

BACKBONE = "deit_small_patch16_224"
LARGE = 64_000
WITHIN_MB = 100.0


def schedules() -> list[Schedule]:
    """Two cheap hand-crafted schedules, which share their first block."""
    return [
        Schedule(
            steps=tuple(
                Step(block=block, keep_ratio=rho**i, scorer=DynamicVitScorer(), reducer=Prune())
                for i, block in enumerate((1, 4, 7), start=1)
            )
        )
        for rho in (0.3, 0.4)
    ]


def random_batches(num_images: int, size: int) -> Iterator[Batch]:
    """Random images with random labels, the same each time."""
    generator = torch.Generator().manual_seed(0)
    for start in range(0, num_images, size):
        count = min(size, num_images - start)
        images = torch.randn(count, 3, 224, 224, generator=generator)
        yield Batch(images, torch.randint(0, 1000, (count,), generator=generator))


def status_mb(name: str) -> float:
    """A number of this process that Linux reports, such as `VmRSS`, in megabytes."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise KeyError(name)


def measure(num_images: int, limit_bytes: int) -> dict[str, float]:
    """Score the schedules in this process."""
    torch.set_num_threads(1)
    geometry = backbone_geometry(BACKBONE)
    size = eval_batch(geometry)
    memory = EvaluationMemory(num_images, num_images * state_bytes(geometry), limit_bytes, 1)
    model = create_model(BACKBONE)
    steps = [step for schedule in schedules() for step in schedule.resolve(geometry)]
    attach_(model, [(s.stage, s.block, s.phase, s.scorer, s.reducer, s.num_layers) for s in steps])
    before = status_mb("VmRSS")
    started = time.perf_counter()
    scorer = PrefixCachedScorer(
        model,
        lambda: random_batches(num_images, size),
        arithmetic=Arithmetic(torch.device("cpu"), torch.float32),
        keeps_images=memory.fits,
        max_bytes=memory.cache_bytes,
    )
    scores = scorer.score_all(schedules())
    assert all(len(found.correct) == num_images for found in scores.values())
    seconds = time.perf_counter() - started
    return {"before": before, "after": status_mb("VmRSS"), "peak": status_mb("VmHWM"), "seconds": seconds}


def main() -> None:
    """Measure each number of images, and print them next to what keeping all states takes."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, nargs=2, default=(1000, 4000), metavar=("FEW", "MANY"))
    parser.add_argument("--limit-gb", type=float, default=0.1, help="for prefix states; default %(default)s")
    parser.add_argument("--in-process", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    limit = int(1e9 * options.limit_gb)
    if options.in_process is not None:
        print(json.dumps(measure(options.in_process, limit)))
        return
    each = state_bytes(backbone_geometry(BACKBONE))
    print("| images | prefix states of all, GB | resident before, MB | after, MB | peak, MB | seconds |")
    print("|---|---|---|---|---|---|")
    peaks = []
    for num_images in options.images:
        command = [sys.executable, __file__, "--in-process", str(num_images), "--limit-gb", str(options.limit_gb)]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        peaks.append(found["peak"])
        numbers = " | ".join(f"{found[name]:,.0f}" for name in ("before", "after", "peak", "seconds"))
        print(f"| {num_images:,} | {num_images * each / 1e9:.2f} | {numbers} |", flush=True)
    print(f"\npeak at {options.images[1]:,} minus at {options.images[0]:,} images: {peaks[1] - peaks[0]:+.0f} MB")
    print(f"prefix states of {LARGE:,} images: {LARGE * each / 1e9:.1f} GB; in passes, the limit of {limit / 1e9} GB")
    if abs(peaks[1] - peaks[0]) > WITHIN_MB:
        raise SystemExit(f"more than {WITHIN_MB:.0f} MB apart")


if __name__ == "__main__":
    main()

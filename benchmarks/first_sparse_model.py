"""Accuracy of a dense model when tokens are dropped without training, and after a short fine-tuning.

python benchmarks/first_sparse_model.py

The example of docs/sparse-models.md with numbers: `deit_pico` is trained densely on the bundled task, and then drops
tokens before the feed-forward networks of blocks 2, 4 and 6 by class attention (fused as in EViT, or pruned) or by
merging (ToMe). Test split; one seed. Speed is not meaningful at this size; see sparse_speed.py for DeiT-S.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import torch
from torch import nn

from sparsesearch import Schedule, restore_, sparsify_
from sparsesearch.cost.analytic import AnalyticCost, dense_macs
from sparsesearch.data.digits_task import DigitsTask, DigitsTest
from sparsesearch.data.inputs import task_geometry
from sparsesearch.schedule.methods import ClassAttentionScorer, Fuse, Merge, Prune
from sparsesearch.seeds import derive_seed
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import FidelitySpec, TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.kinds import Training, TrainingContext, dense_training, sparse_training
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.scoring import EVAL_BATCH, evaluate_model
from sparsesearch.training.teacher import Teacher

BLOCKS = (2, 4, 6)
RATES = (0.7, 0.5)


def schedules(rate: float) -> dict[str, Schedule]:
    """The compared schedules at a rate, all without learned parameters."""
    ratios = [rate**power for power in (1, 2, 3)]
    attention = ClassAttentionScorer()
    return {
        "class attention, fused (EViT)": Schedule.at(
            BLOCKS, ratios, phase="before_ffn", reducer=Fuse(), scorer=attention
        ),
        "class attention, pruned": Schedule.at(BLOCKS, ratios, phase="before_ffn", reducer=Prune(), scorer=attention),
        "merged (ToMe)": Schedule.at(BLOCKS, ratios, phase="before_ffn", reducer=Merge()),
    }


def train(training: Training, context: TrainingContext) -> float:
    """Run a training; returns its seconds."""
    run = TrainingRun(
        training.model, training.spec, steps_per_epoch=training.steps_per_epoch, arithmetic=context.arithmetic
    )
    started = time.perf_counter()
    for epoch in range(1, training.spec.epochs + 1):
        with Silent().bar(training.label, total=training.steps_per_epoch) as bar:
            run.epoch(training.batches(epoch), training.objective, seed=derive_seed(context.seed, epoch), bar=bar)
    return time.perf_counter() - started


def main() -> None:
    """Train, drop tokens, evaluate and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="JSON with every number")
    arguments = parser.parse_args()
    task, test = DigitsTask(image_size=32, in_chans=1), DigitsTest(image_size=32, in_chans=1)
    arithmetic = Arithmetic(torch.device("cpu"), torch.float32)
    context = TrainingContext("deit_pico", task_geometry("deit_pico", task), task, arithmetic, seed=arguments.seed)

    def accuracy(model: nn.Module) -> float:
        return float(
            evaluate_model(model, test.test(batch_size=EVAL_BATCH), arithmetic=arithmetic).correct.float().mean()
        )

    dense = dense_training(context, FidelitySpec().dense, weights="scratch", seed=arguments.seed)
    assert dense is not None
    print(f"dense training {train(dense, context):.0f} s")
    weights = dense.model.state_dict()
    whole = dense_macs(context.geometry)
    rows = [{"schedule": "dense", "share": 1.0, "untrained": accuracy(dense.model), "trained": None}]
    for rate in RATES:
        for name, schedule in schedules(rate).items():
            sparsify_(dense.model, schedule)
            untrained = accuracy(dense.model)
            restore_(dense.model)
            training = sparse_training(
                context,
                TrainSpec(epochs=2, images_per_epoch=5376, lr=3e-4),
                schedule=schedule,
                start=weights,
                teacher=Teacher(context.model_with(weights), task, arithmetic=arithmetic, use_pool=True),
                seed=arguments.seed,
                label=name,
            )
            seconds = train(training, context)
            share = AnalyticCost().estimate(context.geometry, schedule).macs / whole
            row = {"schedule": f"{name}, {rate:g}", "share": share, "untrained": untrained}
            rows.append({**row, "trained": accuracy(training.model), "seconds": seconds})
            print(rows[-1], flush=True)
    print("| schedule | multiply-adds of dense | no training | 2 epochs |\n|---|---|---|---|")
    for row in rows:
        trained = "" if row["trained"] is None else f"{row['trained']:.2%}"
        print(f"| {row['schedule']} | {row['share']:.1%} | {row['untrained']:.2%} | {trained} |")
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

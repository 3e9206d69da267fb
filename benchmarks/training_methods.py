"""Training with dropped tokens (gathered) against training with masks, as in the papers: speed and accuracy.

python benchmarks/training_methods.py speed --backbone deit_s --batch-size 8 --runs 5
python benchmarks/training_methods.py accuracy --seeds 3

Speed: medians of whole training steps with an online teacher, and of the student's forward and backward pass alone,
interleaved. Accuracy: on the bundled task, one dense training per seed, then both methods from its weights with the
same images; test split, paired bootstrap over the test digits, seeds pooled.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.registry import create_model, geometry
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.data.digits_task import DigitsTask, DigitsTest
from sparsesearch.data.inputs import task_geometry
from sparsesearch.data.task import Batch
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.seeds import derive_seed
from sparsesearch.sparsify.draws import Draws
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import FidelitySpec, TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.distillation import SCORE_NOISE
from sparsesearch.training.kinds import Training, TrainingContext, dense_training, sparse_training
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.masked import MaskedObjective
from sparsesearch.training.objectives import SparseObjective
from sparsesearch.training.scoring import EVAL_BATCH, evaluate_model
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.training_step import TrainingStep

METHODS = ("gathered", "masked")
_RESAMPLES = 10_000


def steps_of(method: str, arguments: argparse.Namespace) -> tuple[Callable[[], None], Callable[[], None]]:
    """A whole training step with the teacher, and the student's part of it."""
    dtype = torch.bfloat16 if arguments.precision == "bf16" else torch.float32
    arithmetic = Arithmetic(torch.device(arguments.device), dtype)
    model = create_model(arguments.backbone).to(arithmetic.device)
    dense = create_model(arguments.backbone).to(arithmetic.device)
    dense.load_state_dict(model.state_dict())
    shape = geometry(model, arguments.backbone)
    sparsify_(model, paper_schedule(shape, arguments.rho))
    teacher = Teacher(dense, DigitsTask(image_size=32, in_chans=1), arithmetic=arithmetic, use_pool=False)
    kind = MaskedObjective if method == "masked" else SparseObjective
    objective = kind(model, teacher, arithmetic=arithmetic)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(arguments.batch_size, 3, *shape.image_size, generator=generator).to(arithmetic.device)
    labels = torch.randint(1000, (arguments.batch_size,), generator=generator).to(arithmetic.device)
    batch = Batch(images=images, labels=labels, ids=None, boxes=None)
    model.train()

    def whole() -> None:
        optimizer.zero_grad(set_to_none=True)
        objective(batch, TrainingStep(0, Draws(0))).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    def student() -> None:
        optimizer.zero_grad(set_to_none=True)
        call = new_call(
            model, generator=generator, mode="masked" if method == "masked" else "gather", noise=SCORE_NOISE
        )
        with arithmetic.autocast():
            logits: Tensor = model(images, call=call)
        loss = torch.nn.functional.cross_entropy(logits.float(), labels)
        for step in call.trace.steps:  # a gradient for predictors, in either method
            output = step.decision_BN if step.decision_BN is not None else step.score_BN
            loss = loss + output.float().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return whole, student


def speed(arguments: argparse.Namespace) -> dict[str, object]:
    """Medians of interleaved runs, and their ratios."""
    parts = {method: steps_of(method, arguments) for method in METHODS}
    runs = {
        f"{method} {part}": run
        for method in METHODS
        for part, run in zip(("step", "student"), parts[method], strict=True)
    }
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for round_number in range(arguments.runs + 1):
        for name, run in runs.items():
            started = time.perf_counter()
            run()
            if arguments.device != "cpu":
                torch.cuda.synchronize()
            if round_number:
                taken[name].append(time.perf_counter() - started)
    medians = {name: statistics.median(seconds) for name, seconds in taken.items()}
    row: dict[str, object] = {
        "backbone": arguments.backbone, "rho": arguments.rho, "batch_size": arguments.batch_size,
        "precision": arguments.precision, "device": arguments.device, "threads": torch.get_num_threads(),
        "seconds": medians, "minimum": {name: min(seconds) for name, seconds in taken.items()},
        "step_ratio": medians["masked step"] / medians["gathered step"],
        "student_ratio": medians["masked student"] / medians["gathered student"],
    }  # fmt: skip
    print(json.dumps(row, indent=2))
    return row


def trained(training: Training, context: TrainingContext, *, seed: int) -> float:
    """Run a training; returns its seconds."""
    run = TrainingRun(
        training.model, training.spec, steps_per_epoch=training.steps_per_epoch, arithmetic=context.arithmetic
    )
    started = time.perf_counter()
    for epoch in range(1, training.spec.epochs + 1):
        with Silent().bar(training.label, total=training.steps_per_epoch) as bar:
            run.epoch(training.batches(epoch), training.objective, seed=derive_seed(seed, epoch), bar=bar)
    return time.perf_counter() - started


def one_seed(seed: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Both methods at every rate, from the dense weights of one seed."""
    task = DigitsTask(image_size=32, in_chans=1)
    test = DigitsTest(image_size=32, in_chans=1)
    arithmetic = Arithmetic(torch.device("cpu"), torch.float32)
    context = TrainingContext("deit_pico", task_geometry("deit_pico", task), task, arithmetic, seed=seed)
    dense = dense_training(context, FidelitySpec().dense, weights="scratch", seed=seed)
    assert dense is not None
    trained(dense, context, seed=seed)
    weights = dense.model.state_dict()
    rows: list[dict[str, Any]] = [
        {"seed": seed, "rho": 1.0, "method": "dense", "correct": correct_of(dense.model, test, arithmetic)}
    ]
    for rho in arguments.rho_list:
        for method in METHODS:
            spec = TrainSpec(epochs=arguments.epochs, images_per_epoch=5376, lr=5e-4, predictor_lr=2e-3, method=method)
            training = sparse_training(
                context,
                spec,
                schedule=paper_schedule(context.geometry, rho),
                start=weights,
                teacher=Teacher(context.model_with(weights), task, arithmetic=arithmetic, use_pool=True),
                seed=seed,
                label=f"{method} {rho}",
            )
            seconds = trained(training, context, seed=seed)
            correct = correct_of(training.model, test, arithmetic)
            print(f"seed {seed} rho {rho} {method}: {correct.mean():.2%} after {seconds:.0f} s", flush=True)
            rows.append({"seed": seed, "rho": rho, "method": method, "correct": correct, "seconds": seconds})
    return rows


def correct_of(model: torch.nn.Module, test: DigitsTest, arithmetic: Arithmetic) -> NDArray[np.bool_]:
    """Whether a model classifies each test canvas correctly."""
    found: NDArray[np.bool_] = evaluate_model(
        model, test.test(batch_size=EVAL_BATCH), arithmetic=arithmetic
    ).correct.numpy()
    return found


def accuracy(arguments: argparse.Namespace) -> dict[str, object]:
    """Gathered minus masked with its 95 % interval, at each rate."""
    rows = [row for seed in range(arguments.seeds) for row in one_seed(seed, arguments)]
    rng = np.random.default_rng(0)
    sources = DigitsTest(image_size=32, in_chans=1).test_sources()
    sources = np.unique(sources, return_inverse=True)[1]
    document: dict[str, object] = {"seeds": arguments.seeds, "epochs": arguments.epochs}
    for rho in arguments.rho_list:
        by_method = {m: [r["correct"] for r in rows if r["rho"] == rho and r["method"] == m] for m in METHODS}
        gain = np.mean([g.astype(float) - m for g, m in zip(*by_method.values(), strict=True)], axis=0)
        by_digit = np.bincount(sources, weights=gain) / np.bincount(sources)
        draws = rng.integers(len(by_digit), size=(_RESAMPLES, len(by_digit)))
        low, high = np.percentile(by_digit[draws].mean(axis=1), [2.5, 97.5])
        document[f"rho {rho}"] = {
            **{m: float(np.mean([c.mean() for c in by_method[m]])) for m in METHODS},
            "gathered_minus_masked": float(gain.mean()),
            "interval": [float(low), float(high)],
            "seconds": {m: [r["seconds"] for r in rows if r["rho"] == rho and r["method"] == m] for m in METHODS},
        }
    print(json.dumps(document, indent=2))
    return document


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "accuracy"])
    parser.add_argument("--backbone", default="deit_s")
    parser.add_argument("--rho", type=float, default=0.7, help="rate of the speed test")
    parser.add_argument("--rho-list", type=float, nargs="+", default=[0.7, 0.3], help="rates of the accuracy test")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--precision", choices=["float32", "bf16"], default="float32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    document = speed(arguments) if arguments.what == "speed" else accuracy(arguments)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

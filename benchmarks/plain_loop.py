"""A training loop that knows nothing of sparse models against `retrain`'s objective, from the same dense weights.

OMP_NUM_THREADS=1 python benchmarks/plain_loop.py --home /tmp/plain --out plain.json

The plain loop is made of timm's parts: its AdamW with one learning rate, its cosine schedule, cross-entropy and
`model(images)`; no teacher. One dense training per backbone, kept in `--home`; then both loops from its weights, with
the same images in the same order, for each seed. The papers' schedule at `--rho`; test split of the bundled task.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from timm.models import VisionTransformer
from timm.optim import create_optimizer_v2  # type: ignore[attr-defined]
from timm.scheduler import create_scheduler_v2  # type: ignore[attr-defined]
from torch import nn

from sparsesearch.backbones.model_options import ModelOptions
from sparsesearch.backbones.models.pico import ConvStem, draw_small_, small_arguments
from sparsesearch.backbones.registry import create_model, geometry
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.data.digits_task import DigitsTask, DigitsTest
from sparsesearch.data.task import Batch, Epoch
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.seeds import derive_seed
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import FidelitySpec, TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.checkpoints import read_tensors, write_tensors
from sparsesearch.training.kinds import steps_per_epoch
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.objectives import DenseObjective, SparseObjective
from sparsesearch.training.scoring import EVAL_BATCH, evaluate_model
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.training_step import Objective

LOOPS = ["plain", "objective"]
ARITHMETIC = Arithmetic(torch.device("cpu"), torch.float32)
TASK = DigitsTask(image_size=32, in_chans=1)
TEST = DigitsTest(image_size=32, in_chans=1)


def classless() -> nn.Module:
    """`deit_pico` without a class token: it classifies the average of the tokens."""
    model = VisionTransformer(
        **small_arguments(ModelOptions()), patch_size=4, embed_dim=48, depth=8, num_heads=3, mlp_ratio=4.0,
        embed_layer=ConvStem, weight_init="skip", class_token=False, global_pool="avg",
    )  # fmt: skip
    draw_small_(model, seed=0)
    return model


BACKBONES: dict[str, Callable[[], nn.Module]] = {
    "deit_pico": partial(create_model, "deit_pico"),
    "deit_pico without class token": classless,
    "convnext_pico": partial(create_model, "convnext_pico"),
    "swin_pico": partial(create_model, "swin_pico"),
}


def accuracy(model: nn.Module) -> float:
    """Accuracy on the test split, in percent."""
    correct = evaluate_model(model, TEST.test(batch_size=EVAL_BATCH), arithmetic=ARITHMETIC).correct
    return 100 * float(correct.float().mean())


def run_objective(
    model: nn.Module, spec: TrainSpec, objective: Objective, batches: Callable[[int], Iterator[Batch]], *, seed: int
) -> None:
    """Train with this package's loop."""
    steps = steps_per_epoch(spec, num_train=TASK.num_train)
    training = TrainingRun(model, spec, steps_per_epoch=steps, arithmetic=ARITHMETIC)
    for epoch in range(1, spec.epochs + 1):
        with Silent().bar("", total=steps) as bar:
            training.epoch(batches(epoch), objective, seed=derive_seed(seed, epoch), bar=bar)


def dense_model(name: str, home: Path) -> nn.Module:
    """The dense model of a backbone, trained unless its weights are in the folder."""
    model, path = BACKBONES[name](), home / f"{name.replace(' ', '_')}.safetensors"
    if not path.is_file():
        spec = FidelitySpec().dense
        curriculum = round(TASK.curriculum_fraction * spec.epochs) * steps_per_epoch(spec, num_train=TASK.num_train)
        objective = DenseObjective(model, geometry(model, name), curriculum_steps=curriculum, arithmetic=ARITHMETIC)
        fresh = partial(Epoch, seed=0, batch_size=spec.batch_size)
        run_objective(model, spec, objective, lambda epoch: TASK.fresh_epoch(fresh(epoch)), seed=0)
        write_tensors(path, model.state_dict(), metadata={})
    model.load_state_dict(read_tensors(path)[0])
    return model


def train_plainly(
    model: nn.Module, spec: TrainSpec, batches: Callable[[int], Iterator[Batch]], *, lr: float, seed: int
) -> None:
    """Train with a loop of timm's parts."""
    torch.manual_seed(seed)
    optimizer = create_optimizer_v2(model, opt="adamw", lr=lr, weight_decay=spec.weight_decay)
    updates = steps_per_epoch(spec, num_train=TASK.num_train)
    scheduler, _ = create_scheduler_v2(
        optimizer, sched="cosine", num_epochs=spec.epochs, warmup_epochs=1, warmup_lr=1e-6, updates_per_epoch=updates,
        step_on_epochs=False, warmup_prefix=False,
    )  # fmt: skip
    criterion, done = nn.CrossEntropyLoss(), 0
    for epoch in range(1, spec.epochs + 1):
        model.train()
        for batch in batches(epoch):
            optimizer.zero_grad()
            loss = criterion(model(batch.images), batch.labels)
            loss.backward()
            optimizer.step()
            done += 1
            scheduler.step_update(done)


def one_seed(
    name: str, spec: TrainSpec, arguments: argparse.Namespace, *, teacher: Teacher, seed: int
) -> dict[str, float]:
    """Accuracies of the loops."""
    found: dict[str, float] = {}
    home = arguments.home
    chosen = partial(Epoch, seed=seed, batch_size=spec.batch_size, num_images=spec.images_per_epoch)
    for loop in arguments.loops:
        model, started = dense_model(name, home), time.perf_counter()
        sparsify_(model, paper_schedule(geometry(model, name), arguments.rho), seed=seed)
        if loop == "plain":
            train_plainly(model, spec, lambda epoch: TASK.pool_epoch(chosen(epoch)), lr=arguments.lr, seed=seed)
        else:
            objective = SparseObjective(model, teacher, arithmetic=ARITHMETIC)
            run_objective(model, spec, objective, lambda epoch: TASK.pool_epoch(chosen(epoch)), seed=seed)
        found[loop] = accuracy(model)
        print(f"{name}, seed {seed}, {loop}: {found[loop]:.2f} % ({time.perf_counter() - started:.0f} s)", flush=True)
    return found


def main() -> None:
    """Parse arguments and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="folder of the dense weights")
    parser.add_argument("--backbones", nargs="+", choices=list(BACKBONES), default=list(BACKBONES))
    parser.add_argument("--rho", type=float, default=0.7)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", type=int, default=2560, help="images of an epoch")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of the plain loop")
    parser.add_argument("--loops", nargs="+", choices=LOOPS, default=LOOPS)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    spec = TrainSpec(epochs=arguments.epochs, images_per_epoch=arguments.images, lr=5e-4, predictor_lr=2e-3)
    document: dict[str, object] = {"rho": arguments.rho, "lr": arguments.lr, "spec": spec.model_dump(mode="json")}
    for name in arguments.backbones:
        dense = accuracy(dense_model(name, arguments.home))
        teacher = Teacher(dense_model(name, arguments.home), TASK, arithmetic=ARITHMETIC, use_pool=True)
        rows = [one_seed(name, spec, arguments, teacher=teacher, seed=seed) for seed in range(arguments.seeds)]
        means = {loop: statistics.mean(row[loop] for row in rows) for loop in arguments.loops}
        document[name] = {"dense": dense, "seeds": rows, **means}
        print(f"{name}: dense {dense:.2f} %, means {means}", flush=True)
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

"""Train for some steps in this process's share of a group: `python -m torch.distributed.run ... train_together.py`.

Prints nothing; the first process writes losses and logits to OUT, and which images do not keep other tokens when the
last digits of a float change. Run alone, it is the undivided training.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
import torch.distributed as dist

from sparsesearch.backbones.transforms import set_schedule_
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import task_geometry
from sparsesearch.deploy.check import is_clear
from sparsesearch.schedule import Schedule
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import Augmentation, TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.checkpoints import write_tensors
from sparsesearch.training.kinds import Training, TrainingContext, dense_training, sparse_training, supernet_training
from sparsesearch.training.loop import TrainingRun
from sparsesearch.training.processes import Processes
from sparsesearch.training.teacher import Teacher

PRESETS = {
    "augmentation": Augmentation(mixup=0.8, cutmix=1.0, label_smoothing=0.1, random_erasing=0.25),
    "drop_path": 0.2,
    "ema_decay": 0.9,
}
SCHEDULE = Schedule.at([2, 4, 6], [0.7, 0.5, 0.35])


def training_of(kind: str, context: TrainingContext, spec: TrainSpec) -> Training:
    """A training that starts from the initial weights of the dense model."""
    if kind == "dense":
        found = dense_training(context, spec, weights="scratch", seed=5)
        assert found is not None
        return found
    dense = context.fresh_model().state_dict()
    teacher = Teacher(context.model_with(dense), context.task, arithmetic=context.arithmetic, use_pool=False)
    if kind == "supernet":
        space = SearchSpace(blocks=(1, 3, 5), max_predictors=2).resolve(context.geometry)
        return supernet_training(context, spec, space=space, dense=dense, teacher=teacher, seed=5)
    spec = spec.model_copy(update={"method": "masked" if kind == "masked" else "gathered"})
    return sparse_training(context, spec, schedule=SCHEDULE, start=dense, teacher=teacher, seed=5, label="fine-tuning")


def main() -> None:
    """Train and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["dense", "supernet", "gathered", "masked"])
    parser.add_argument("out", type=Path)
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--micro-batch", type=int)
    parser.add_argument("--backbone", default="deit_pico")
    parser.add_argument("--presets", action="store_true", help="with everything that the papers' recipes draw")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if dist.is_torchelastic_launched():
        dist.init_process_group("gloo")
    processes = Processes()
    task = DigitsTask(image_size=32, in_chans=1)
    arithmetic = Arithmetic(torch.device("cpu"), torch.float32)
    context = TrainingContext(arguments.backbone, task_geometry(arguments.backbone, task), task, arithmetic, seed=0)
    spec = TrainSpec(
        epochs=arguments.steps, images_per_epoch=32, batch_size=32, lr=3e-4, micro_batch=arguments.micro_batch
    )
    if arguments.presets:
        spec = spec.model_copy(update=PRESETS)
    training = training_of(arguments.kind, context, spec)
    run = TrainingRun(training.model, training.spec, steps_per_epoch=1, arithmetic=arithmetic, processes=processes)
    losses = []
    while run.epochs_done < arguments.steps:
        batches = training.batches(run.epochs_done + 1, share=processes.share)
        loss = run.epoch(batches, training.objective, seed=run.epochs_done, bar=Silent().bar("", 1))
        assert loss is not None
        losses.append(loss)
    if arguments.kind == "supernet":
        set_schedule_(training.model, Schedule())
    images = next(iter(task.val("screen", batch_size=64))).images
    with torch.no_grad():
        logits = torch.cat([model.eval()(images) for model in (training.model, run.average) if model is not None])
    if processes.is_first:
        is_sparse = arguments.kind in ("gathered", "masked")
        clear = is_clear(training.model, images) if is_sparse else torch.ones(len(images), dtype=torch.bool)
        tensors = {"losses": torch.tensor(losses, dtype=torch.float64), "logits": logits, "clear": clear}
        write_tensors(arguments.out, tensors, metadata={})


if __name__ == "__main__":
    main()

"""The three kinds of training: the dense model, the supernet, and one schedule."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sparsesearch.backbones.drop_path import set_drop_path_
from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.transforms import attach_, sparsify_
from sparsesearch.data.task import ALONE, Batch, Epoch, Share, Task
from sparsesearch.errors import CheckpointError
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.study.metric import VAL_TOP1
from sparsesearch.study.progress import Progress, Silent, advancing
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.loop import PREDICTOR_PREFIX
from sparsesearch.training.masked import MaskedObjective
from sparsesearch.training.objectives import DenseObjective, SparseObjective, SupernetObjective
from sparsesearch.training.scoring import Accumulator, eval_batch, evaluate_model
from sparsesearch.training.teacher import Teacher
from sparsesearch.training.training_step import Objective
from sparsesearch.training.weights import dense_start


@dataclass(frozen=True)
class TrainingContext:
    """What all trainings of a backbone on a task have in common.

    Attributes:
        backbone: Backbone name.
        geometry: Its geometry.
        task: Training and validation data.
        arithmetic: Device and precision.
        seed: Seed of newly initialised weights.
    """

    backbone: str
    geometry: BackboneGeometry
    task: Task
    arithmetic: Arithmetic
    seed: int

    def fresh_model(self) -> nn.Module:
        """The dense model with initial weights, on the device."""
        model = create_model(
            self.backbone,
            num_classes=self.task.num_classes,
            in_chans=self.task.in_chans,
            image_size=self.task.image_size,
            seed=self.seed,
        )
        return self.arithmetic.placed(model)

    def model_with(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        """The dense model with given weights."""
        model = self.fresh_model()
        load_weights_(model, tensors, source="the checkpoint of the dense model")
        return model

    def supernet_model(self, space: ResolvedSpace) -> nn.Module:
        """A sparse model with the predictors and fast paths of every method at every location of a space."""
        model = self.fresh_model()
        attach_(
            model,
            [
                (*location, method.phase, method.scorer, method.reducer)
                for location in space.locations
                for method in space.methods
                if method.is_possible_at(location)
            ],
        )
        return model


@dataclass(frozen=True)
class Training:
    """A training ready to run.

    Attributes:
        model: Trained in place.
        spec: Hyperparameters.
        objective: The loss.
        read: Reads the batches of an epoch.
        seed: Seed of the images' order and augmentation.
        steps_per_epoch: Optimizer steps of an epoch.
        label: Shown in progress bars.
    """

    model: nn.Module
    spec: TrainSpec
    objective: Objective
    read: Callable[[Epoch], Iterator[Batch]]
    seed: int
    steps_per_epoch: int
    label: str

    def batches(self, epoch: int, *, first_step: int = 0, share: Share = ALONE) -> Iterator[Batch]:
        """The batches of an epoch, counted from 1, or a process's share of them, from a step on."""
        spec, augment = self.spec, self.spec.augmentation.rand_augment
        return self.read(Epoch(epoch, self.seed, spec.batch_size, spec.images_per_epoch, first_step, share, augment))


def steps_per_epoch(spec: TrainSpec, *, num_train: int) -> int:
    """Optimizer steps of one epoch; an incomplete last batch is dropped."""
    images = min(num_train, spec.images_per_epoch or num_train)
    return max(1, images // spec.batch_size)


def dense_training(context: TrainingContext, spec: TrainSpec, *, weights: str, seed: int) -> Training | None:
    """Training of the dense model, or None if the weights already include a head for this task."""
    start = dense_start(weights, backbone=context.backbone, task=context.task, seed=context.seed)
    if start.has_head:
        return None
    model = context.arithmetic.placed(start.model)
    set_drop_path_(model, spec.drop_path)
    steps = steps_per_epoch(spec, num_train=context.task.num_train)
    objective = DenseObjective(
        model,
        context.geometry,
        curriculum_steps=round(context.task.curriculum_fraction * spec.epochs) * steps,
        arithmetic=context.arithmetic,
    )
    return Training(
        model=model,
        spec=spec,
        objective=objective,
        read=context.task.fresh_epoch,
        seed=seed,
        steps_per_epoch=steps,
        label="dense training",
    )


def given_dense_model(
    context: TrainingContext, *, weights: str, progress: Progress | None = None, trial: int | None = None
) -> tuple[nn.Module, Accumulator]:
    """A dense model whose weights include a head, and its predictions of the validation images.

    Args:
        context: Backbone, data, device and precision.
        weights: The weights.
        progress: Shows the validation.
        trial: Number of the trial that this is for.

    Raises:
        CheckpointError: It is hardly better than chance, so its classes do not match those of the data.
    """
    model = dense_start(weights, backbone=context.backbone, task=context.task, seed=context.seed).model
    model = context.arithmetic.placed(model)
    size = eval_batch(context.geometry)
    batches = context.task.val("confirm", batch_size=size)
    with (progress or Silent()).bar(
        "validating the given weights", -(-context.task.num_val // size), trial=trial
    ) as bar:
        evaluated = evaluate_model(model, advancing(batches, bar), arithmetic=context.arithmetic)
    # A model that always predicts the most frequent class has the balanced accuracy of chance.
    chance = 1.0 / len(evaluated.class_fractions)
    if evaluated.balanced_top1 < min(3 * chance, chance + 0.1 * (1 - chance)):
        order = " (try the other --class-order)" if context.task.orders_differ else ""
        raise CheckpointError(
            f"the weights {weights!r} reach a balanced validation accuracy of {evaluated.balanced_top1:.1%}, where "
            f"chance is {chance:.1%} (accuracy {VAL_TOP1.of(evaluated.metrics('val')):.1%}, most frequent class "
            f"{max(evaluated.class_fractions):.1%}); check that the classes of the data are in the order that "
            f"the weights were trained with{order}"
        )
    return model, evaluated


def supernet_training(
    context: TrainingContext,
    spec: TrainSpec,
    *,
    space: ResolvedSpace,
    dense: Mapping[str, Tensor],
    teacher: Teacher,
    seed: int,
) -> Training:
    """Training of the shared weights of all schedules of a space, starting from dense weights."""
    model = context.supernet_model(space)
    load_dense_part(model, dense)
    _prepare_(model, spec)
    objective = SupernetObjective(model, teacher, space=space, geometry=context.geometry, arithmetic=context.arithmetic)
    return _on_pool(context, spec, model, objective, seed=seed, label="supernet training")


def sparse_training(
    context: TrainingContext,
    spec: TrainSpec,
    *,
    schedule: Schedule,
    start: Mapping[str, Tensor],
    teacher: Teacher,
    seed: int,
    label: str,
) -> Training:
    """Training of one schedule, from dense weights or from weights that include its predictors."""
    model = context.fresh_model()
    sparsify_(model, schedule)
    load_dense_part(model, start)
    _prepare_(model, spec)
    objective: Objective
    if spec.method == "masked":
        objective = MaskedObjective(model, teacher, arithmetic=context.arithmetic, ratio_weight=spec.ratio_weight)
    else:
        objective = SparseObjective(model, teacher, arithmetic=context.arithmetic)
    return _on_pool(context, spec, model, objective, seed=seed, label=label)


def _prepare_(model: Any, spec: TrainSpec) -> None:
    """Enable stochastic depth and gradient checkpointing if requested."""
    set_drop_path_(model, spec.drop_path)
    if spec.grad_checkpointing:
        model.set_grad_checkpointing(True)


def _on_pool(
    context: TrainingContext, spec: TrainSpec, model: nn.Module, objective: Objective, *, seed: int, label: str
) -> Training:
    return Training(
        model=model,
        spec=spec,
        objective=objective,
        read=context.task.pool_epoch,
        seed=seed,
        steps_per_epoch=steps_per_epoch(spec, num_train=context.task.num_train),
        label=label,
    )


def load_dense_part(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Load the dense weights of a sparse model, and those of its predictors that are available.

    Raises:
        CheckpointError: A dense weight is missing.
    """
    load_weights_(model, tensors, source="the checkpoint", optional=(PREDICTOR_PREFIX,), allow_unused=True)

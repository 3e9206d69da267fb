"""Training objectives of the dense model, of the supernet (all schedules at once), and of one schedule.

Shapes: `B` batch, `N` tokens, `K` kept tokens, `C` channels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sparsesearch.backbones.calls import new_call
from sparsesearch.backbones.segments import embed, finish, run_blocks
from sparsesearch.backbones.transforms import set_schedule_
from sparsesearch.data.task import Batch
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.supernet_schedules import minimal_schedule, random_schedule
from sparsesearch.sparsify.draws import Draws
from sparsesearch.sparsify.gather import gather_tokens
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.distillation import SCORE_NOISE, gathered_terms
from sparsesearch.training.teacher import Teacher, TeacherTargets
from sparsesearch.training.training_step import TrainingStep


class DenseObjective:
    """Cross-entropy of the dense model, with a crop curriculum if the bounding box of the object is known.

    During the curriculum the model sees only a window around the object, half as high and half as wide as the image:
    on the cluttered canvases of the bundled task, training does not make progress without it. A ViT receives the
    tokens of the window, a ConvNeXt its pixels; Swin works on a single image size and has no curriculum.

    Args:
        model: A dense model.
        geometry: Its geometry.
        curriculum_steps: Number of initial steps with the curriculum.
        arithmetic: Device and precision.
        label_smoothing: Label smoothing of the cross-entropy.
    """

    def __init__(
        self,
        model: nn.Module,
        geometry: BackboneGeometry,
        *,
        curriculum_steps: int,
        arithmetic: Arithmetic,
        label_smoothing: float = 0.0,
    ) -> None:
        self._model = model
        self._geometry = geometry
        self._mixer = geometry.stages[0].mixer
        self._curriculum_steps = 0 if self._mixer == "window" else curriculum_steps
        self._arithmetic = arithmetic
        self._label_smoothing = label_smoothing

    def __call__(self, batch: Batch, step: TrainingStep) -> Tensor:
        """The loss of a batch."""
        with self._arithmetic.autocast():
            if batch.boxes is not None and step.number < self._curriculum_steps:
                logits = self._windowed(batch.images, batch.boxes, step.draws)
            else:
                logits = self._model(batch.images)
        return F.cross_entropy(logits.float(), batch.labels, label_smoothing=self._label_smoothing)

    def _windowed(self, images: Tensor, boxes: Tensor, draws: Draws) -> Tensor:
        stage = self._geometry.stages[0]
        index_BK = window_tokens(boxes, grid=stage.grid, draws=draws)
        if self._mixer == "convolution":
            logits: Tensor = self._model(_cropped(images, index_BK[:, 0], grid=stage.grid))
            return logits
        x_BNC = embed(self._model, images)
        prefix = torch.arange(stage.num_prefix_tokens, device=x_BNC.device).expand(len(index_BK), -1)
        index_BK = torch.cat([prefix, index_BK + stage.num_prefix_tokens], dim=1)
        x_BNC = run_blocks(self._model, gather_tokens(x_BNC, index_BK), start=0, stop=stage.depth)
        return finish(self._model, x_BNC)


def _cropped(images: Tensor, corners_B: Tensor, *, grid: tuple[int, int]) -> Tensor:
    """Windows half as high and wide as the image; corners are raster indices of their top left grid cells."""
    first = (corners_B // grid[1], corners_B % grid[1])
    for axis, (cells, size) in enumerate(zip(grid, images.shape[-2:], strict=True), 2):
        inside = torch.arange(math.ceil(cells / 2) * size // cells, device=images.device)
        pixels = (first[axis - 2] * size // cells)[:, None] + inside
        shape = [1 if other not in (0, axis) else -1 for other in range(4)]
        images = images.take_along_dim(pixels.reshape(len(pixels), *shape[1:]), dim=axis)
    return images


def window_tokens(boxes: Tensor, *, grid: tuple[int, int], draws: Draws) -> Tensor:
    """Raster indices of a randomly positioned window that contains each box, half as high and wide as the grid.

    Args:
        boxes: `B x 4` top, left, bottom, right as fractions of the image; no larger than the window.
        grid: Rows and columns of tokens.
        draws: Samples the position.

    Returns:
        An int64 `B x K` tensor, K = a quarter of the grid (each side rounded up).
    """
    starts, sides = [], []
    for axis, size in enumerate(grid):
        side = math.ceil(size / 2)
        first = (boxes[:, axis] * size).floor().long()
        last = (boxes[:, axis + 2] * size).ceil().long() - 1
        low = (last - side + 1).clamp(0, size - side)
        high = torch.minimum(first, torch.full_like(first, size - side)).clamp(min=0)
        uniform = draws.uniform((len(boxes),), device=boxes.device)
        starts.append(
            torch.maximum(low, low + (uniform * (high - low + 1)).floor().long().clamp(max=(high - low).clamp(min=0)))
        )
        sides.append(side)
    rows, columns = (
        start[:, None] + torch.arange(side, device=start.device) for start, side in zip(starts, sides, strict=True)
    )
    return (rows[:, :, None] * grid[1] + columns[:, None, :]).flatten(1)


class SparseObjective:
    """Training of one schedule with gathered tokens; predictors learn the teacher's saliency.

    loss = 0.5 cross-entropy + 0.5 KL(teacher || student) + 0.3 KL(teacher's saliency || softmax of scores), the last
    averaged over the active predictors. Predictors receive no gradient from dropped tokens; the saliency target
    replaces it. A model with a token head (LV-ViT) also learns the teacher's logits of the remaining tokens.

    Args:
        model: A sparse model whose schedule is set.
        teacher: Provides targets.
        arithmetic: Device and precision.
    """

    def __init__(self, model: nn.Module, teacher: Teacher, *, arithmetic: Arithmetic) -> None:
        self._model = model
        self._teacher = teacher
        self._arithmetic = arithmetic
        self._has_token_head = hasattr(model, "token_logits")

    def __call__(self, batch: Batch, step: TrainingStep) -> Tensor:
        """The loss of a batch."""
        return self.pass_loss(batch, self.targets(batch), step.draws)

    def targets(self, batch: Batch) -> TeacherTargets:
        """The teacher's targets of a batch."""
        return self._teacher.targets(batch, tokens=self._has_token_head)

    def pass_loss(self, batch: Batch, targets: TeacherTargets, draws: Draws, *, probe: bool = False) -> Tensor:
        """The loss of one forward pass under the current schedule.

        Args:
            batch: A batch.
            targets: The teacher's targets of the batch.
            draws: Source of the noise on scores.
            probe: Whether predictors of locations without a step also score, and learn.
        """
        call = new_call(
            self._model,
            generator=draws,
            noise=SCORE_NOISE,
            probe=probe,
            record=True,
            keep_final_tokens=self._has_token_head,
        )
        with self._arithmetic.autocast():
            logits = self._model(batch.images, call=call)
        return gathered_terms(self._model, call.trace, logits, batch.labels, targets)


class SupernetObjective:
    """Training of one set of weights for every schedule of a space.

    Each step adds the losses of two passes: a random schedule, and alternately the dense model (with every predictor
    scoring) and a minimal schedule, so that both ends of the budget range stay accurate (the sandwich rule of BigNAS,
    arXiv:2003.11142, section 3). The teacher of all passes is the frozen dense model, not the dense pass of the same
    step.

    Args:
        model: A sparse model with all predictors and fast paths of the space attached.
        teacher: Provides targets.
        space: The search space.
        geometry: Geometry of the backbone.
        arithmetic: Device and precision.
    """

    def __init__(
        self,
        model: nn.Module,
        teacher: Teacher,
        *,
        space: ResolvedSpace,
        geometry: BackboneGeometry,
        arithmetic: Arithmetic,
    ) -> None:
        self._model = model
        self._space = space
        self._geometry = geometry
        self._inner = SparseObjective(model, teacher, arithmetic=arithmetic)

    def __call__(self, batch: Batch, step: TrainingStep) -> Tensor:
        """The sum of the losses of both passes."""
        targets = self._inner.targets(batch)
        rng = step.draws.generator("schedules")
        set_schedule_(self._model, random_schedule(self._space, self._geometry, rng=rng))
        loss = self._inner.pass_loss(batch, targets, step.draws)
        is_dense = step.number % 2 == 0
        other = Schedule() if is_dense else minimal_schedule(self._space, self._geometry, rng=rng)
        set_schedule_(self._model, other)
        return loss + self._inner.pass_loss(batch, targets, step.draws, probe=is_dense)

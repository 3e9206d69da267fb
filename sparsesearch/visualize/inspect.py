"""Run a sparse model on a few images and record which tokens it keeps.

Shapes: `B` images, `C` channels, `H` and `W` height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from sparsesearch.backbones.calls import trace_of
from sparsesearch.data.decoding import decoded
from sparsesearch.data.inputs import open_task
from sparsesearch.data.loading import Preprocessing
from sparsesearch.errors import DataError
from sparsesearch.sparsify.trace import StepTrace
from sparsesearch.study.spec import DataSpec
from sparsesearch.visualize.kept_tokens import NO_TOKEN, ImageView, StepView

_POOL_SIZE = 32


def read_images(paths: Sequence[Path], preprocessing: Preprocessing, *, min_pixels: int) -> Tensor:
    """Read image files as a batch `B x C x H x W`, resized, cropped and normalised.

    Args:
        paths: The files, at least one.
        preprocessing: The preprocessing to apply.
        min_pixels: Minimum height and width of an image.

    Raises:
        DataError: A file is missing, is not an image, or is too small.
    """
    transform = preprocessing.transform(is_training=False)
    images = [transform(_read(path, preprocessing.mode, min_pixels=min_pixels)) for path in paths]
    return preprocessing.normalisation(torch.stack(images))


def validation_images(data: DataSpec, *, backbone: str, count: int) -> Tensor:
    """A few validation images of a data set, of different classes where possible.

    The test split is not opened.

    Raises:
        DataError: The data cannot be read.
    """
    task = open_task(data.model_copy(update={"workers": 0}), backbone=backbone)
    batch = next(iter(task.val("confirm", batch_size=max(count, _POOL_SIZE)))).normalised()
    labels = batch.labels.tolist()
    first_of_class = [index for index, label in enumerate(labels) if label not in labels[:index]]
    others = [index for index in range(len(labels)) if index not in first_of_class]
    return batch.images[sorted([*first_of_class, *others][:count])]


@torch.inference_mode()
def inspect_images(
    model: nn.Module, images_BCHW: Tensor, *, names: Sequence[str], preprocessing: Preprocessing
) -> list[ImageView]:
    """Run a sparse model and record what each of its steps keeps of each image.

    Args:
        model: A sparse model on the CPU, with weights; left in evaluation mode.
        images_BCHW: Preprocessed images.
        names: A name for each image.
        preprocessing: The preprocessing that was applied.
    """
    sparse: Any = model.eval()
    shape = sparse.sparsity.geometry
    _, recorded = trace_of(model, images_BCHW, keep_groups=True)
    steps = sparse.sparsity.schedule.resolve(shape)
    views: list[ImageView] = []
    for index, (name, pixels) in enumerate(zip(names, shown_pixels(images_BCHW, preprocessing), strict=True)):
        seen = []
        for step, trace in zip(steps, recorded.steps, strict=True):
            token_N, fused = _tokens(trace, index, num_positions=shape.stages[step.stage].num_tokens)
            seen.append(StepView(step, shape.stages[step.stage].grid, token_N, fused))
        views.append(ImageView(name, pixels, tuple(seen)))
    return views


def shown_pixels(images_BCHW: Tensor, preprocessing: Preprocessing) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Displayable images: normalisation undone, three channels, values in [0, 1]."""
    statistics = (preprocessing.mean, preprocessing.std)
    mean, std = (torch.tensor(values[: preprocessing.in_chans]).reshape(-1, 1, 1) for values in statistics)
    plain_BCHW = (images_BCHW.float() * std + mean).clamp(0, 1).expand(-1, 3, -1, -1)
    return [np.asarray(image.permute(1, 2, 0), dtype=np.float64) for image in plain_BCHW]


def _tokens(trace: StepTrace, index: int, *, num_positions: int) -> tuple[Any, frozenset[int]]:
    """The token that represents each position of one image, and which tokens are fused."""
    if trace.kept_BK is None:
        return np.arange(num_positions), frozenset()
    kept = trace.kept_BK[index].tolist()
    if trace.groups_BN is not None:
        fused = frozenset(token for token, position in enumerate(kept) if position < 0)
        return trace.groups_BN[index].numpy(), fused
    token_N = np.full(num_positions, NO_TOKEN)
    token_N[kept] = np.arange(len(kept))
    return token_N, frozenset()


def _read(path: Path, mode: str, *, min_pixels: int) -> Image.Image:
    if not path.exists():
        raise DataError(f"image {path} does not exist; check the path")
    image = decoded(str(path), mode=mode, what=str(path), advice="give a JPEG, PNG or WebP file")
    if min(image.size) < min_pixels:
        raise DataError(
            f"{path} has {image.width}x{image.height} pixels, less than one patch ({min_pixels}); give a larger image"
        )
    return image

"""Runs a sparse model on a few images and takes down which tokens it keeps.

Shapes: `B` images, `C` channels, `H` and `W` height and width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn

from sparsesearch.data.digits import MEAN, STD
from sparsesearch.data.inputs import open_task, preprocessing_of
from sparsesearch.data.loading import Preprocessing
from sparsesearch.errors import DataError, one_line
from sparsesearch.sparsify.token_state import TokenState
from sparsesearch.sparsify.trace import StepTrace
from sparsesearch.study.spec import DataSpec
from sparsesearch.visualize.kept_tokens import NOBODY, ImageView, StepView

_SEEN = 32


def preprocessing_for(backbone: str, data: DataSpec, *, in_chans: int | None, image_size: int | None) -> Preprocessing:
    """How images are made ready, as they are for training; the demo's canvases have a normalisation of their own.

    Args:
        backbone: Resolved backbone name.
        data: What the model was trained on.
        in_chans: Image channels, if not what backbone and data say.
        image_size: Pixels, likewise.
    """
    wanted = preprocessing_of(backbone, data)
    wanted = replace(wanted, in_chans=in_chans or wanted.in_chans, image_size=image_size or wanted.image_size)
    if data.is_demo:
        wanted = replace(wanted, mean=(MEAN,) * wanted.in_chans, std=(STD,) * wanted.in_chans)
    return wanted


def read_images(paths: Sequence[Path], wanted: Preprocessing, *, least_pixels: int) -> Tensor:
    """Image files as a batch `B x C x H x W`, resized, cropped and normalised.

    Args:
        paths: The files, one at least.
        wanted: How to make them ready.
        least_pixels: Height and width that an image must have.

    Raises:
        DataError: A file is missing, is no image, or is too small.
    """
    transform = wanted.transform(is_training=False)
    return torch.stack([transform(_read(path, wanted.mode, least_pixels=least_pixels)) for path in paths])


def validation_images(data: DataSpec, *, backbone: str, count: int) -> Tensor:
    """A few validation images of a data set, of different classes as far as they come along early.

    The test split stays closed.

    Raises:
        DataError: The data cannot be read.
    """
    task = open_task(data.model_copy(update={"workers": 0}), backbone=backbone)
    batch = next(iter(task.val("confirm", batch_size=max(count, _SEEN))))
    labels = batch.labels.tolist()
    first_of_class = [index for index, label in enumerate(labels) if label not in labels[:index]]
    others = [index for index in range(len(labels)) if index not in first_of_class]
    return batch.images[sorted([*first_of_class, *others][:count])]


@torch.inference_mode()
def look(model: nn.Module, images_BCHW: Tensor, *, names: Sequence[str], wanted: Preprocessing) -> list[ImageView]:
    """Run a sparse model and take down what each of its steps keeps of each image.

    Args:
        model: A sparse model on the CPU, with weights; left in evaluation mode.
        images_BCHW: Images made ready.
        names: A name for each.
        wanted: How they were made ready.
    """
    sparse: Any = model.eval()
    state, shape = sparse.sparsity.state, sparse.sparsity.geometry
    if isinstance(state, TokenState):
        state.keep_groups = True
    model(images_BCHW)
    steps = sparse.sparsity.schedule.resolve(shape)
    views: list[ImageView] = []
    for index, (name, pixels) in enumerate(zip(names, shown_pixels(images_BCHW, wanted), strict=True)):
        seen = []
        for step, trace in zip(steps, state.trace.steps, strict=True):
            token_N, fused = _tokens(trace, index, num_positions=shape.stages[step.stage].num_tokens)
            seen.append(StepView(step, shape.stages[step.stage].grid, token_N, fused))
        views.append(ImageView(name, pixels, tuple(seen)))
    return views


def shown_pixels(images_BCHW: Tensor, wanted: Preprocessing) -> list[np.ndarray[Any, np.dtype[np.float64]]]:
    """Images as people see them: normalisation undone, three channels, values in [0, 1]."""
    mean, std = (torch.tensor(values[: wanted.in_chans]).reshape(-1, 1, 1) for values in (wanted.mean, wanted.std))
    plain_BCHW = (images_BCHW.float() * std + mean).clamp(0, 1).expand(-1, 3, -1, -1)
    return [np.asarray(image.permute(1, 2, 0), dtype=np.float64) for image in plain_BCHW]


def _tokens(trace: StepTrace, index: int, *, num_positions: int) -> tuple[Any, frozenset[int]]:
    """The token that stands for each position of one image, and which tokens are fused."""
    if trace.kept_BK is None:
        return np.arange(num_positions), frozenset()
    kept = trace.kept_BK[index].tolist()
    if trace.groups_BN is not None:
        fused = frozenset(token for token, position in enumerate(kept) if position < 0)
        return trace.groups_BN[index].numpy(), fused
    token_N = np.full(num_positions, NOBODY)
    token_N[kept] = np.arange(len(kept))
    return token_N, frozenset()


def _read(path: Path, mode: str, *, least_pixels: int) -> Image.Image:
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert(mode)
    except FileNotFoundError as error:
        raise DataError(f"no such image: {path}") from error
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = "" if isinstance(error, UnidentifiedImageError) else f" ({one_line(error)})"
        raise DataError(f"{path} is not a readable image{reason}; give a JPEG, PNG or WebP file") from error
    if min(image.size) < least_pixels:
        raise DataError(
            f"{path} has {image.width}x{image.height} pixels, less than one patch ({least_pixels}); give a larger one"
        )
    return image

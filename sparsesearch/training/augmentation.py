"""Mixing, erasing and label smoothing of the images of a training step, on the device that trains.

What happens to an image depends on (seed, step, position in the step) alone, not on the process or the part of a step
that computes it. Images are mixed in pairs of neighbours, so that a process's share must consist of whole pairs.

Shapes: `B` images, `P` pairs, `C` channels, `H` and `W` pixels, `K` classes.
"""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional as F

from sparsesearch.data.task import Batch
from sparsesearch.errors import SpecError
from sparsesearch.sparsify.draws import Draws
from sparsesearch.study.spec import Augmentation, TrainSpec

_CPU = torch.device("cpu")
_SWITCH = 0.5
_LEAST_AREA, _LARGEST_AREA = 0.02, 1 / 3
_LOG_ASPECT = math.log(0.3)
_TRIES = 10


class Augmenter:
    """Changes the images and labels of a step.

    Args:
        augmentation: What is done.
        num_classes: Classes of the labels.

    Source: mixup (arXiv:1710.09412), CutMix (arXiv:1905.04899) and random erasing (arXiv:1708.04896), with the
    distributions of timm's `Mixup` in mode `pair` and of its `RandomErasing` in mode `pixel`.
    """

    def __init__(self, augmentation: Augmentation, *, num_classes: int) -> None:
        self._augmentation = augmentation
        self._num_classes = num_classes

    def __call__(self, batch: Batch, draws: Draws) -> Batch:
        """Return the batch as it is trained on.

        Args:
            batch: This process's images of a step, on the device.
            draws: Random numbers of the step.

        Returns:
            A batch of the same size with labels as probabilities, `B x K`, and without `ids`, as the outputs of a
            teacher for the original images do not fit.

        Raises:
            SpecError: The images are not whole pairs.
        """
        spec, images = self._augmentation, batch.images
        if spec.random_erasing > 0.0:
            images = erased(images, draws.at(batch.first), probability=spec.random_erasing)
        target_BK = smoothed(batch.labels, num_classes=self._num_classes, smoothing=spec.label_smoothing)
        if spec.mixes:
            if batch.first % 2 or len(images) % 2:
                raise SpecError(_unpaired(len(images) if batch.num_in_step is None else batch.num_in_step, world=None))
            images, target_BK = mixed(
                images, target_BK, draws.at(batch.first // 2), mixup=spec.mixup, cutmix=spec.cutmix
            )
        return replace(batch, images=images, labels=target_BK, ids=None)


def check_pairs(spec: TrainSpec, *, num_images: int, world: int) -> None:
    """Check that every process's share of a step consists of whole pairs, if they are mixed.

    Args:
        spec: The training.
        num_images: Images of an epoch.
        world: Number of processes.

    Raises:
        SpecError: It does not.
    """
    size = min(spec.batch_size, num_images)
    if spec.augmentation.mixes and size % (2 * world):
        raise SpecError(_unpaired(size, world=world))


def _unpaired(size: int, *, world: int | None) -> str:
    shared = "" if world in (None, 1) else f" for each of {world} processes"
    multiple = "an even number" if world in (None, 1) else f"a multiple of {2 * (world or 1)}"
    return (
        f"mixup and cutmix mix pairs of images{shared}, but a batch has {size}; set batch_size to {multiple} that the "
        "data are enough for, or mixup and cutmix to 0"
    )


def smoothed(labels: Tensor, *, num_classes: int, smoothing: float) -> Tensor:
    """Classes as probabilities `B x K`, of which `smoothing` is spread over all classes."""
    return F.one_hot(labels, num_classes).float() * (1.0 - smoothing) + smoothing / num_classes


def mixed(images: Tensor, target_BK: Tensor, draws: Draws, *, mixup: float, cutmix: float) -> tuple[Tensor, Tensor]:
    """Mix each pair of neighbours, with one ratio for both.

    Args:
        images: `B x C x H x W`, an even number.
        target_BK: Class probabilities.
        draws: Random numbers with a row for each pair.
        mixup: Alpha of mixup, 0 for none.
        cutmix: Alpha of cutmix, 0 for none.

    Returns:
        The mixed images and probabilities.
    """
    height, width = images.shape[-2:]
    ratio, switch, centre_y, centre_x = draws.uniform((len(images) // 2, 4), device=_CPU, purpose="mix").unbind(1)
    cuts_P = switch < (_SWITCH if mixup and cutmix else float(cutmix > 0.0))
    alpha_P = torch.where(cuts_P, cutmix or 1.0, mixup or 1.0).double()
    own_P = torch.as_tensor(betaincinv(alpha_P.numpy(), alpha_P.numpy(), ratio.double().numpy()))
    side_P = (1.0 - own_P).sqrt()
    top, bottom = _span(centre_y, (height * side_P).long(), height)
    left, right = _span(centre_x, (width * side_P).long(), width)
    kept_P = 1.0 - ((bottom - top) * (right - left)).double() / (height * width)
    own_P = torch.where(cuts_P, kept_P, own_P)
    box_P4 = torch.stack([top, bottom, left, right], dim=1)
    device = images.device
    inside_P1HW = _inside(box_P4.to(device, non_blocking=True), height=height, width=width)
    is_cut_P111 = cuts_P.to(device, non_blocking=True)[:, None, None, None]
    own_P1 = own_P.float().to(device, non_blocking=True)[:, None]
    weight_P1HW = torch.where(is_cut_P111, 1.0 - inside_P1HW.float(), own_P1[:, :, None, None])
    return _blended(images, weight_P1HW.to(images.dtype)), _blended(target_BK, own_P1)


def erased(images: Tensor, draws: Draws, *, probability: float) -> Tensor:
    """Replace a rectangle of some images by normal noise.

    Args:
        images: Normalised, `B x C x H x W`.
        draws: Random numbers with a row for each image.
        probability: Of each image to be erased.
    """
    height, width = images.shape[-2:]
    chance, *tries = draws.uniform((len(images), 1 + 4 * _TRIES), device=_CPU, purpose="erase").double().unbind(1)
    box_B4 = torch.zeros(len(images), 4, dtype=torch.int64)
    waiting_B = chance < probability
    for number in range(_TRIES):
        size, aspect, place_y, place_x = tries[4 * number : 4 * number + 4]
        area_B = height * width * (_LEAST_AREA + (_LARGEST_AREA - _LEAST_AREA) * size)
        aspect_B = torch.exp(_LOG_ASPECT * (1.0 - 2.0 * aspect))
        rows_B, columns_B = (area_B * aspect_B).sqrt().round().long(), (area_B / aspect_B).sqrt().round().long()
        fits_B = waiting_B & (rows_B < height) & (columns_B < width)
        top_B = (place_y * (height - rows_B + 1)).long()
        left_B = (place_x * (width - columns_B + 1)).long()
        tried_B4 = torch.stack([top_B, top_B + rows_B, left_B, left_B + columns_B], dim=1)
        box_B4 = torch.where(fits_B[:, None], tried_B4, box_B4)
        waiting_B = waiting_B & ~fits_B
    rows = (box_B4[:, 1] > box_B4[:, 0]).nonzero().flatten()
    if not len(rows):
        return images
    chosen = rows.to(images.device, non_blocking=True)
    uniform = draws.uniform((len(rows), *images.shape[1:]), device=images.device, purpose="erase with", rows=chosen)
    noise = torch.erfinv(uniform.mul_(2.0).sub_(1.0)).mul_(math.sqrt(2.0)).to(images.dtype)
    box = box_B4[rows].to(images.device, non_blocking=True)
    replaced = torch.where(_inside(box, height=height, width=width), noise, images.index_select(0, chosen))
    return images.index_copy(0, chosen, replaced)


def _span(centre: Tensor, length: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """First and last plus one of `length` pixels around a random one, as far as they are inside the image."""
    middle = (centre * size).long()
    return (middle - length // 2).clamp(0, size), (middle + (length + 1) // 2).clamp(0, size)


def _inside(box: Tensor, *, height: int, width: int) -> Tensor:
    """Whether each pixel is in a box of top, bottom, left, right: `B x 1 x H x W`."""
    y, x = torch.arange(height, device=box.device), torch.arange(width, device=box.device)
    rows = (y >= box[:, 0, None]) & (y < box[:, 1, None])
    columns = (x >= box[:, 2, None]) & (x < box[:, 3, None])
    return (rows[:, :, None] & columns[:, None, :])[:, None]


def _blended(values: Tensor, own: Tensor) -> Tensor:
    """Each value times its weight, plus its neighbour times the rest; a weight for each pair."""
    own = own.repeat_interleave(2, dim=0)
    neighbours = values.reshape(-1, 2, *values.shape[1:]).flip(1).reshape(values.shape)
    return values * own + neighbours * (1.0 - own)

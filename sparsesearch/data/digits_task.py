"""The bundled digits task, at any image size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import cached_property
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from sparsesearch.data.digits import (
    CANVAS,
    DIGIT,
    NUM_CLASSES,
    Canvases,
    Split,
    Variant,
    draw_canvases,
    num_sources,
)
from sparsesearch.data.task import Batch, Epoch, Task, ValPart
from sparsesearch.schedule.image_size import ImageSize, sides
from sparsesearch.seeds import derive_seed

FRESH_PER_DIGIT = 5
POOL_PER_DIGIT = 10
VAL_PER_DIGIT = 12
_CURRICULUM_FRACTIONS: dict[Variant, float] = {"plain": 2 / 3, "hard": 1 / 2, "four": 1 / 2}
_POOL_SEED, _TEST_SEED = 11, 31
_VAL_SEEDS: dict[ValPart, int] = {"screen": 21, "confirm": 22, "more": 23}


class DigitsTask:
    """Digits on a canvas (see `digits`), resized to the input size of the backbone.

    Args:
        image_size: Height and width in pixels; canvases of 32 pixels are resized bilinearly.
        in_chans: Channels; the grey canvas is repeated over them.
        num_val_images: Maximum number of images of a validation part, None for all 3600.
        variant: Content of a canvas.
    """

    num_classes = NUM_CLASSES
    class_names = tuple(str(digit) for digit in range(NUM_CLASSES))
    orders_differ = False
    state = ""
    val_is_of_train = False

    def __init__(
        self, *, image_size: ImageSize, in_chans: int, num_val_images: int | None = None, variant: Variant = "plain"
    ) -> None:
        self._variant = variant
        self.curriculum_fraction = _CURRICULUM_FRACTIONS[variant]
        self.image_size: ImageSize = image_size
        self.in_chans = in_chans
        self.num_train = FRESH_PER_DIGIT * num_sources("train")
        available = VAL_PER_DIGIT * num_sources("val")
        self.num_val = min(num_val_images or available, available)
        self.num_ranking = 2 * available
        document: dict[str, object] = {"task": "digits", "version": 1, "image_size": image_size, "in_chans": in_chans}
        if variant != "plain":
            document["variant"] = variant
        self.fingerprint = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]

    @cached_property
    def _pool(self) -> Canvases:
        return self._draw("train", per_digit=POOL_PER_DIGIT, seed=_POOL_SEED)

    def fresh_epoch(self, epoch: Epoch) -> Iterator[Batch]:
        """Canvases never seen before; see `Task.fresh_epoch`."""
        canvases = self._draw("train", per_digit=FRESH_PER_DIGIT, seed=derive_seed(epoch.seed, "fresh", epoch.number))
        order = np.arange(len(canvases.labels))[: epoch.num_images or None]
        yield from self._training(canvases, order, epoch, with_ids=False)

    def pool_epoch(self, epoch: Epoch) -> Iterator[Batch]:
        """Batches of the fixed pool, in a different order for each epoch; see `Task.pool_epoch`."""
        rng = np.random.default_rng(derive_seed(epoch.seed, "pool", epoch.number))
        order = rng.permutation(len(self._pool.labels))[: min(epoch.num_images or self.num_train, self.num_train)]
        yield from self._training(self._pool, order, epoch, with_ids=True)

    def pool(self, *, batch_size: int) -> Iterator[Batch]:
        """The fixed pool in order."""
        yield from self._batches(self._pool, np.arange(len(self._pool.labels)), batch_size=batch_size, with_ids=True)

    def val(self, part: ValPart, *, batch_size: int) -> Iterator[Batch]:
        """Fixed canvases of the validation digits; the parts share digits but no canvas."""
        yield from self._evaluation("val", seed=_VAL_SEEDS[part], limit=self.num_val, batch_size=batch_size)

    def val_sources(self, part: ValPart) -> NDArray[np.int64]:
        """The digit of each validation canvas: those of one digit are not independent."""
        return self._draw("val", per_digit=VAL_PER_DIGIT, seed=_VAL_SEEDS[part]).sources[: self.num_val]

    def _draw(self, split: Split, *, per_digit: int, seed: int) -> Canvases:
        return draw_canvases(split, per_digit=per_digit, seed=seed, variant=self._variant)

    def _evaluation(self, split: Split, *, seed: int, limit: int | None, batch_size: int) -> Iterator[Batch]:
        canvases = self._draw(split, per_digit=VAL_PER_DIGIT, seed=seed)
        yield from self._batches(canvases, np.arange(len(canvases.labels))[: limit or None], batch_size=batch_size)

    def _training(
        self, canvases: Canvases, order: NDArray[np.int64], epoch: Epoch, *, with_ids: bool
    ) -> Iterator[Batch]:
        """The steps of an epoch; an incomplete last one is left out."""
        size = min(epoch.batch_size, len(order))
        steps = (order[start : start + size] for start in range(epoch.first_step * size, len(order) - size + 1, size))
        for step in steps:
            own = epoch.share.of(size)
            yield self._batch(canvases, step[own], with_ids=with_ids, first=own.start, num_in_step=size)

    def _batches(
        self, canvases: Canvases, order: NDArray[np.int64], *, batch_size: int, with_ids: bool = False
    ) -> Iterator[Batch]:
        for start in range(0, len(order), batch_size):
            yield self._batch(canvases, order[start : start + batch_size], with_ids=with_ids)

    def _batch(
        self,
        canvases: Canvases,
        index: NDArray[np.int64],
        *,
        with_ids: bool,
        first: int = 0,
        num_in_step: int | None = None,
    ) -> Batch:
        corners = torch.from_numpy(canvases.corners[index]).float()
        return Batch(
            images=self._resize(torch.from_numpy(canvases.images[index])),
            labels=torch.from_numpy(canvases.labels[index]),
            ids=torch.from_numpy(np.ascontiguousarray(index)) if with_ids else None,
            boxes=torch.cat([corners, corners + DIGIT], dim=1) / CANVAS,
            first=first,
            num_in_step=num_in_step,
        )

    def _resize(self, images: Tensor) -> Tensor:
        if self.image_size != CANVAS:
            images = F.interpolate(images, size=sides(self.image_size), mode="bilinear", align_corners=False)
        return images.expand(-1, self.in_chans, -1, -1).contiguous()


class DigitsTest(DigitsTask):
    """The test split of the digits task; only retraining and final reports may use it."""

    def with_held_out(self) -> Self:
        """Itself: validation images are digits of their own."""
        return self

    def test(self, *, batch_size: int) -> Iterator[Batch]:
        """Fixed canvases of the test digits, 12 per source digit (397 of them)."""
        yield from self._evaluation("test", seed=_TEST_SEED, limit=None, batch_size=batch_size)

    def test_sources(self) -> NDArray[np.int64]:
        """Source digit of each test canvas, int64 `4764`; resample these, not canvases, for confidence intervals."""
        return self._draw("test", per_digit=VAL_PER_DIGIT, seed=_TEST_SEED).sources


_: type[Task] = DigitsTask

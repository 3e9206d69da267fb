"""Compare what was written, in its own runtime, with the model in torch: kept tokens, logits, and the test split.

Shapes: `B` batch, `C` classes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsesearch.data.task import Batch
from sparsesearch.deploy.exported import kept_tokens
from sparsesearch.deploy.format import Run
from sparsesearch.errors import SparseSearchError

BATCHES = (1, 2, 5)
TOLERANCE = 1e-4
CLEAR_MARGIN = 1e-3
"""Difference of the two largest logits from which on two runtimes must agree on the class."""

_NOISE, _NUM_NOISES, _MOST_LOOKED_AT = 1e-5, 3, 64


class DeployCheckError(SparseSearchError):
    """A file does not do what its model does; it was not kept."""


def clear_images(model: nn.Module, images: Iterable[Tensor], *, count: int = max(BATCHES)) -> Tensor:
    """Images on which the model's choice of tokens does not hang on the last digits of a float.

    Args:
        model: A sparse model.
        images: Batches of images, of which the first ones are looked at.
        count: How many are needed; fewer are returned if there are no more.

    Raises:
        DeployCheckError: There is none.
    """
    found: list[Tensor] = []
    looked_at = 0
    for batch in images:
        clear_B = is_clear(model, batch)
        found += list(batch[clear_B])
        looked_at += len(batch)
        if len(found) >= count or looked_at >= _MOST_LOOKED_AT:
            break
    if not found:
        raise DeployCheckError(
            f"the tokens that the model keeps hang on the last digits of a float in each of {looked_at} images, so "
            "that runtimes cannot be compared; train the model, or give --data with images of its kind"
        )
    return torch.stack(found[:count])


def is_clear(model: nn.Module, images: Tensor) -> Tensor:
    """Which images keep the same tokens if their pixels change in the fifth digit, `B`."""
    generator = torch.Generator().manual_seed(0)
    kept = kept_tokens(model, images)[1:]
    clear_B = torch.ones(len(images), dtype=torch.bool)
    for _ in range(_NUM_NOISES):
        noisy = images + _NOISE * torch.randn(images.shape, generator=generator)
        for one, other in zip(kept, kept_tokens(model, noisy)[1:], strict=True):
            clear_B &= (one.sort(dim=1).values == other.sort(dim=1).values).all(dim=1)
    return clear_B


def check_outputs(
    what: str, model: nn.Module, images: Tensor, *, run: Run, run_kept: Run | None, tolerance: float = TOLERANCE
) -> float:
    """Compare logits, and the tokens that each step keeps, at several batch sizes.

    Args:
        what: Name of the file, for messages.
        model: The model in torch.
        images: Clear images, repeated where there are too few.
        run: Runs the file.
        run_kept: Runs its graph with the kept positions as further outputs; None if it is run by the model itself.
        tolerance: The largest difference of a logit that is accepted.

    Returns:
        The largest difference of a logit.

    Raises:
        DeployCheckError: They differ.
    """
    largest = 0.0
    for batch in BATCHES:
        some = torch.cat([images] * -(-batch // len(images)))[:batch]
        expected = kept_tokens(model, some)
        logits = run(some)[0]
        if logits.shape != expected[0].shape:
            raise DeployCheckError(f"{what}: {tuple(logits.shape)} logits in place of {tuple(expected[0].shape)}")
        difference = float((logits - expected[0]).abs().max())
        if not difference <= tolerance:
            raise DeployCheckError(
                f"{what}: logits differ by {difference:.2g} from those of torch at batch size {batch}; "
                f"{tolerance:g} is allowed"
            )
        largest = max(largest, difference)
        for number, (kept, other) in enumerate(
            zip(expected[1:], () if run_kept is None else run_kept(some)[1:], strict=run_kept is not None), start=1
        ):
            if not torch.equal(kept.sort(dim=1).values, other.sort(dim=1).values):
                raise DeployCheckError(f"{what}: step {number} keeps other tokens than in torch at batch size {batch}")
    return largest


@dataclass(frozen=True)
class Compared:
    """A runtime next to torch on the test split.

    Attributes:
        num_images: Images of the split.
        num_correct: Images that the runtime classifies correctly.
        num_correct_torch: The same of torch.
        num_different: Images that they classify differently, all of them too close to call.
    """

    num_images: int
    num_correct: int
    num_correct_torch: int
    num_different: int

    @property
    def top1(self) -> float:
        """Accuracy in the runtime."""
        return self.num_correct / self.num_images


class TestSplit:
    """What torch says of the test split, once; runtimes are then compared with it.

    Args:
        model: The model in torch.
        batches: Opens the batches of the split.
    """

    __test__ = False

    def __init__(self, model: nn.Module, batches: Callable[[], Iterable[Batch]]) -> None:
        self._model = model
        self._batches = batches
        self._expected: list[tuple[Tensor, Tensor]] = []
        self.num_images = self.num_correct = 0
        for batch in self._read():
            self._expected.append(self._classes(kept_tokens(model, batch.images)[0]))
            self.num_images += len(batch.labels)
            self.num_correct += int((self._expected[-1][0] == batch.labels).sum())

    def compare(self, what: str, run: Run, *, is_strict: bool = True) -> Compared:
        """Compare a runtime with torch on all images.

        Args:
            what: Name of the file, for messages.
            run: Runs the file.
            is_strict: Whether it must give the class of torch wherever the decision is not too close to call.

        Raises:
            DeployCheckError: It does not.
        """
        num_correct = num_different = 0
        for batch, (expected_B, margin_B) in zip(self._read(), self._expected, strict=True):
            found_B, _ = self._classes(run(batch.images)[0])
            num_correct += int((found_B == batch.labels).sum())
            different_B = found_B != expected_B
            num_different += int(different_B.sum())
            sure_B = different_B & (margin_B > CLEAR_MARGIN)
            if is_strict and sure_B.any() and is_clear(self._model, batch.images[sure_B]).any():
                raise DeployCheckError(f"{what}: test images are classified differently from torch")
        return Compared(self.num_images, num_correct, self.num_correct, num_different)

    def _read(self) -> Iterable[Batch]:
        for batch in self._batches():
            yield batch.normalised()

    @staticmethod
    def _classes(logits_BC: Tensor) -> tuple[Tensor, Tensor]:
        """The class of each image, and the difference of its two largest logits."""
        best_B2 = logits_BC.float().topk(min(2, logits_BC.shape[1]), dim=1)
        return best_B2.indices[:, 0], best_B2.values[:, 0] - best_B2.values[:, -1]

"""Samples with access by index, and their assignment to splits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from PIL import Image

from sparsesearch.data.stratified import alternating, halves
from sparsesearch.errors import DataError
from sparsesearch.text import counted

NUM_DECODED = 64
"""Number of images decoded as a check when data are opened, evenly spread."""
_FEW_IMAGES = 100
Sample = tuple[Image.Image, int]


class Samples(Protocol):
    """Images with their classes, by index."""

    def __len__(self) -> int:
        """Number of samples."""

    def __getitem__(self, index: int, /) -> Sample:
        """One image, decoded, and its class."""


Part = tuple[Samples, Sequence[int]]
"""Data, and the indices of the samples of a split."""


@dataclass(frozen=True)
class Account:
    """What was found in data, for people.

    Attributes:
        left_out: Number of files and samples that are not used, by reason.
        broken: Names of the images that cannot be decoded, as far as they are known.
        notes: Lines about what may be unexpected.
        orders_differ: Whether torchvision would number the classes in another order.
        val_is_of_train: Whether validation images are held out of the training split.
    """

    left_out: Mapping[str, int] = field(default_factory=dict)
    broken: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    orders_differ: bool = False
    val_is_of_train: bool = False

    def lines(self, *, num_val: int) -> list[str]:
        """What a user should read before a study begins.

        Args:
            num_val: Images of one validation part of the search.
        """
        found = list(self.notes)
        if self.left_out:
            found.append(left_out_text(self.left_out))
        if num_val < _FEW_IMAGES:
            found.append(f"{counted(num_val, 'validation image')}: accuracy in steps of {100 / num_val:.1f} points")
        return found


@dataclass(frozen=True)
class Splits:
    """Data and its splits.

    Attributes:
        num_classes: Number of classes.
        fingerprint: Hash of contents, labels and splits.
        train: Training images.
        val: Validation images of a search; those at even positions screen, the others confirm.
        test: Test images.
        class_names: Names of the classes in the order of their labels; empty if unknown.
        account: What was left out, and what may be unexpected.
        train_runs: Lengths of runs of training images that are read fastest together; empty if any order is as fast.
        state: What the files are now, for other processes that open them; empty if it cannot be told to them.
    """

    num_classes: int
    fingerprint: str
    train: Part
    val: Part
    test: Part
    class_names: tuple[str, ...] = ()
    account: Account = field(default_factory=Account)
    train_runs: tuple[int, ...] = ()
    state: str = ""


class Joined:
    """The samples of two parts, one part after the other."""

    def __init__(self, first: Part, second: Part) -> None:
        self._first = first
        self._second = second

    def __len__(self) -> int:
        return len(self._first[1]) + len(self._second[1])

    def __getitem__(self, index: int) -> Sample:
        size = len(self._first[1])
        (samples, indices), inside = (self._first, index) if index < size else (self._second, index - size)
        return samples[indices[inside]]


def left_out_text(left_out: Mapping[str, int]) -> str:
    """`left out: 1 broken image, 3 links without a target`."""
    return "left out: " + ", ".join(counted(count, _one_of(reason), reason) for reason, count in left_out.items())


_ONE = {"images": "image", "files": "file", "folders": "folder", "links": "link", "shards": "shard"}
_ONE |= {"and": "or", "are": "is"}


def _one_of(reason: str) -> str:
    """The singular of a reason, such as `file outside of class folders`: all before the first preposition."""
    head, preposition, rest = re.split(r"( outside | of | to | without |$)", reason, maxsplit=1)
    return " ".join(_ONE.get(word, word) for word in head.split()) + preposition + rest


def search_order(indices: Sequence[int], labels: Sequence[int], *, without: Iterable[int] = ()) -> list[int]:
    """Order validation images so that even and odd positions are two halves with the same classes.

    Args:
        indices: The images.
        labels: Class of each sample of the data.
        without: Images that are left out, while all others stay in their half.

    Raises:
        DataError: A half would be empty.
    """
    gone = set(without)
    first, second = (
        [index for index in half if index not in gone] for half in halves(indices, [labels[index] for index in indices])
    )
    if not first or not second:
        raise DataError(f"validation images: {len(indices)} are too few to divide into two halves; add more")
    return alternating(first, second)


def check_classes(
    train: Iterable[int], other: Mapping[str, Iterable[int]], *, names: Sequence[str], what: str
) -> tuple[str, ...]:
    """Check that every class that occurs has training images.

    Args:
        train: Classes of the training images.
        other: Classes of the images of the other splits, by their names.
        names: Names of the classes.
        what: Names the data in errors.

    Returns:
        Lines that name the classes which a split lacks.

    Raises:
        DataError: A class has no training images.
    """
    trained = Counter(train)
    notes = []
    for split, labels in other.items():
        present = set(labels)
        unknown = sorted(present - set(trained))
        if unknown:
            named = quoted([names[label] for label in unknown])
            raise DataError(f"{what} has no training images of {named}, but {split} images; add some to train")
        missing = [names[label] for label in sorted(set(trained) - present)]
        if missing:
            notes.append(f"no {split} images of {quoted(missing)}")
    return tuple(notes)


def quoted(names: Sequence[str], *, limit: int = 3) -> str:
    """`class 'a'`, or `classes 'a', 'b', 'c' and 7 more`."""
    more = f" and {len(names) - limit:,} more" if len(names) > limit else ""
    return ("class " if len(names) == 1 else "classes ") + ", ".join(map(repr, names[:limit])) + more

"""Where the splits and the class folders of an image folder are."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from sparsesearch.data.file_walk import HIDDEN, IMAGE_SUFFIXES, OUTSIDE, LeftOut, is_folder, is_hidden, listed
from sparsesearch.data.samples import quoted
from sparsesearch.errors import DataError

SplitName = Literal["train", "val", "test"]
ClassOrder = Literal["natural", "alphabetical"]
_NAMES: dict[str, SplitName] = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}


@dataclass(frozen=True)
class Layout:
    """The folders of an image data set.

    Attributes:
        splits: Folder of each split; only `train` if the class folders themselves were given.
        classes: Names of the class folders in the order of their labels.
        folders: Names of the class folders of each split.
        is_whole: Whether there are class folders only, to be split.
    """

    splits: Mapping[SplitName, str]
    classes: tuple[str, ...]
    folders: Mapping[SplitName, tuple[str, ...]]
    is_whole: bool


def find_layout(root: str, *, order: ClassOrder, left_out: LeftOut) -> Layout:
    """Find the splits and classes of an image folder.

    Args:
        root: The folder.
        order: Order of the classes.
        left_out: Counts what is passed over.

    Raises:
        DataError: It has none of the layouts of docs/data.md.
    """
    if not os.path.isdir(root):
        raise DataError(f"{root} is a file, not a folder" if os.path.exists(root) else f"no such data folder: {root}")
    names, images = _folders(root, left_out=left_out)
    splits = _splits(root, names)
    if "train" not in splits:
        if splits:
            found = " and ".join(sorted(splits.values()))
            raise DataError(
                f"{root} has {found}, but no folder train; add one, or give class folders that are split at random"
            )
        classes = _ordered(_checked(root, names, images), order)
        return Layout({"train": root}, classes, {"train": classes}, is_whole=True)
    if len(splits) == 1:
        raise DataError(
            f"{root} has a folder {splits['train']}, but none for validation or test; add {root}/val, or give "
            f"folder:{root}/{splits['train']} to split it at random"
        )
    left_out.counts["folders that are no split"] += len(names) - len(splits)
    folders: dict[SplitName, tuple[str, ...]] = {}
    for split, name in splits.items():
        inside, images = _folders(os.path.join(root, name), left_out=left_out)
        folders[split] = _checked(f"{root}/{name}", inside, images, least=2 if split == "train" else 1)
    classes = _ordered(folders["train"], order)
    for split, present in folders.items():
        unknown = sorted(set(present) - set(classes))
        if unknown:
            hint = ""
            if near := [name for name in classes if name.casefold() == unknown[0].casefold()]:
                hint = f" (train has {near[0]!r})"
            raise DataError(
                f"{root}/{splits[split]} has {quoted(unknown)}, without training images{hint}; add or rename folders"
            )
    return Layout({split: os.path.join(root, name) for split, name in splits.items()}, classes, folders, is_whole=False)


def orders_differ(classes: Sequence[str]) -> bool:
    """Whether natural order (class2 before class10) and alphabetical order differ."""
    return _ordered(classes, "natural") != _ordered(classes, "alphabetical")


def _splits(root: str, names: Sequence[str]) -> dict[SplitName, str]:
    """Name of the folder of each split; a folder `test` without folders in it, next to others, is a class."""
    found: dict[SplitName, str] = {}
    named = [name for name in names if name.lower() in _NAMES]
    only_splits = len(named) == len(names)
    for name in named:
        if not only_splits and not any(
            is_folder(entry) and not is_hidden(entry.name) for entry in listed(os.path.join(root, name))
        ):
            continue
        split = _NAMES[name.lower()]
        if split in found:
            raise DataError(f"{root} has two folders for {split}, {found[split]} and {name}; merge or rename one")
        found[split] = name
    return found


def _folders(folder: str, *, left_out: LeftOut) -> tuple[list[str], int]:
    """Names of the folders directly inside, and the number of images directly inside; the rest is counted."""
    names, images = [], 0
    for entry in listed(folder):
        if is_hidden(entry.name):
            left_out.counts[HIDDEN] += 1
        elif is_folder(entry):
            names.append(entry.name)
        else:
            images += os.path.splitext(entry.name)[1].lower() in IMAGE_SUFFIXES
            left_out.counts[OUTSIDE] += 1
    return names, images


def _checked(folder: str, names: Sequence[str], images: int, *, least: int = 2) -> tuple[str, ...]:
    if len(names) < least:
        found = f"only the class folder {names[0]}" if names else "no class folders"
        if images and not names:
            found = "images directly inside and no class folders"
        raise DataError(f"{folder} has {found}; put the images of each class into a separate folder")
    return tuple(names)


def _ordered(classes: Sequence[str], order: ClassOrder) -> tuple[str, ...]:
    """Sort the names of classes; the natural order, timm's, compares numbers in names as numbers."""
    return tuple(sorted(classes, key=_natural_key if order == "natural" else None))


def _natural_key(name: str) -> tuple[list[str | int], str]:
    parts = re.split(r"([0-9]+)", name.lower())
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name

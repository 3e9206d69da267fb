"""Image folders and named data sets whose samples can be looked up by index, and how they are split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image
from timm.data.dataset_factory import create_dataset
from timm.utils.misc import natural_key

from sparsesearch.data.source import Source
from sparsesearch.errors import DataError, MissingExtraError, one_line
from sparsesearch.study.spec import DataSpec

_SPLIT_SEED = 5
_NUM_OPENED, _NUM_DECODED = 10_000, 64
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}
_TORCH_SMALL = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist")
_TORCH_LARGE = ("imagenet", "places365")
_TORCH_FOLDER = ("folder", "image_folder")

Sample = tuple[Image.Image, int]


class Samples(Protocol):
    """Images with their classes, by index."""

    def __len__(self) -> int:
        """How many there are."""

    def __getitem__(self, index: int, /) -> Sample:
        """One image, decoded, and its class."""


Part = tuple[Samples, Sequence[int]]
"""Data, and which of its samples belong to a split."""


@dataclass(frozen=True)
class Splits:
    """Data and which of its samples belong to which split."""

    num_classes: int
    fingerprint: str
    train: Part
    val: Part
    test: Part


class FolderImages:
    """The images below the class folders of a folder, in the order of their paths.

    Args:
        root: Holds a folder for each class; images may lie deeper in it.
        classes: Names of the class folders in the order of their numbers.
        mode: Pillow's name of the channels.

    Raises:
        DataError: A class has no images, or one of those looked at cannot be read.
    """

    def __init__(self, root: Path, classes: Sequence[str], *, mode: str) -> None:
        self._mode = mode
        self._files: list[tuple[Path, int]] = []
        for label, name in enumerate(classes):
            images = [f for f in sorted((root / name).rglob("*")) if f.suffix.lower() in _IMAGE_SUFFIXES]
            if not images:
                raise DataError(
                    f"the class folder {root / name} holds no images ({', '.join(sorted(_IMAGE_SUFFIXES))})"
                )
            self._files.extend((image, label) for image in images)
        for index in range(0, len(self), max(1, len(self) // _NUM_OPENED)):
            _open_image(self._files[index][0]).close()
        for index in range(0, len(self), max(1, len(self) // _NUM_DECODED)):
            self[index]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        path, label = self._files[index]
        return _decoded(_open_image(path), mode=self._mode, what=str(path)), label

    def hash_into(self, digest: Any, *, root: Path) -> None:
        """Add names and sizes of all files to a hash."""
        for path, label in self._files:
            digest.update(f"{path.relative_to(root)}:{label}:{path.stat().st_size}\n".encode())


class NamedImages:
    """A data set of timm's factory.

    Args:
        dataset: A data set of torchvision, or timm's around one of Hugging Face.
        what: Its name, for errors.
        mode: Pillow's name of the channels.
    """

    def __init__(self, dataset: Any, *, what: str, mode: str) -> None:
        self._dataset = dataset
        self._reader = getattr(dataset, "reader", None)
        self._what = what
        self._mode = mode

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> Sample:
        what = f"sample {index} of {self._what}"
        if self._reader is None:
            image, label = self._dataset[index]
            return _decoded(image, mode=self._mode, what=what), int(label)
        file, label = self._reader[index]  # timm itself would put another image in the place of a broken one
        with file:
            try:
                image = Image.open(file)
            except OSError as error:
                raise DataError(f"{what} is not a readable image ({one_line(error)})") from error
            return _decoded(image, mode=self._mode, what=what), int(label)

    def labels(self) -> list[int]:
        """The classes of all samples; no image is read.

        Raises:
            DataError: They are not numbers from 0.
        """
        found = self._dataset.targets if self._reader is None else self._reader.dataset[self._reader.label_key]
        try:
            labels = [int(label) for label in found]
        except (TypeError, ValueError) as error:
            raise DataError(f"the labels of {self._what} are no class numbers ({one_line(error)})") from error
        if min(labels, default=-1) < 0:
            raise DataError(f"{self._what} has no labels" if labels else f"{self._what} is empty")
        return labels

    def num_classes(self, labels: Sequence[int]) -> int:
        """Classes that the data set declares, else those that occur in the labels."""
        features = {} if self._reader is None else self._reader.dataset.features
        declared = getattr(features.get(getattr(self._reader, "label_key", "")), "num_classes", None)
        return max(declared or 0, max(labels) + 1)


def open_splits(source: Source, spec: DataSpec, *, mode: str) -> Splits:
    """Open image folders, a torchvision or a Hugging Face data set.

    Args:
        source: Of kind `folder`, `torch` or `hfds`.
        spec: How to split.
        mode: Pillow's name of the channels.

    Raises:
        DataError: Missing, empty or unreadable data.
        MissingExtraError: What reads it is not installed.
    """
    if source.path is not None and (source.kind == "folder" or source.name in _TORCH_FOLDER):
        return _open_folder(source.path, spec, mode=mode)
    return _open_named(source, spec, mode=mode)


def _open_folder(path: Path, spec: DataSpec, *, mode: str) -> Splits:
    if not path.is_dir():
        raise DataError(f"no such data folder: {path}")
    val = next((path / name for name in ("val", "validation") if (path / name).is_dir()), None)
    if (path / "train").is_dir() and val is None:
        raise DataError(f"{path} has a folder train, but none named val; add one, or give the class folders themselves")
    digest = hashlib.sha256()
    if val is None:
        classes = _class_folders(path)
        whole = FolderImages(path, classes, mode=mode)
        whole.hash_into(digest, root=path)
        digest.update(f"val share {spec.val_fraction}".encode())
        test, rest = hold_out(len(whole), spec.val_fraction)
        held_out, rest = rest[: len(test)], rest[len(test) :]
        if len(rest) < len(test):
            raise DataError(f"{path} has {len(whole)} images, too few to split them into train, validation and test")
        return Splits(len(classes), digest.hexdigest(), (whole, rest), (whole, held_out), (whole, test))
    classes = _class_folders(path / "train")
    folders = [path / "train", val, *([path / "test"] if (path / "test").is_dir() else [])]
    parts = []
    for folder in folders:
        differing = sorted(set(_class_folders(folder)) ^ set(classes))
        if differing:
            raise DataError(f"{folder} and {path / 'train'} have different class folders: {', '.join(differing[:3])}")
        parts.append(FolderImages(folder, classes, mode=mode))
        parts[-1].hash_into(digest, root=path)
    if len(parts) == 3:
        train_set, val_set, test_set = parts
        return Splits(
            len(classes),
            digest.hexdigest(),
            train=(train_set, range(len(train_set))),
            val=(val_set, shuffled(len(val_set))),
            test=(test_set, range(len(test_set))),
        )
    train_set, test_set = parts
    digest.update(f"val share {spec.val_fraction}".encode())
    held_out, rest = hold_out(len(train_set), spec.val_fraction)
    return Splits(
        len(classes),
        digest.hexdigest(),
        train=(train_set, rest),
        val=(train_set, held_out),
        test=(test_set, range(len(test_set))),
    )


def _class_folders(path: Path) -> list[str]:
    """The class folders in timm's order: numbers in names count as numbers."""
    names = [entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if len(names) < 2:
        found = f"only the class folder {names[0]}" if names else "no class folders"
        raise DataError(f"{path} has {found}; put the images of each class into a folder of its own")
    return sorted(names, key=natural_key)


def _open_image(path: Path) -> Image.Image:
    """The image, its header read."""
    try:
        return Image.open(path)
    except OSError as error:
        reason = "it is empty" if path.is_file() and path.stat().st_size == 0 else one_line(error)
        raise DataError(f"{path} is not a readable image ({reason}); remove or replace it") from error


def _decoded(image: Image.Image, *, mode: str, what: str) -> Image.Image:
    try:
        with image:
            return image.convert(mode)
    except Exception as error:  # decoders raise many kinds of errors for broken files
        raise DataError(f"{what} is not a readable image ({one_line(error)}); remove or replace it") from error


def _open_named(source: Source, spec: DataSpec, *, mode: str) -> Splits:
    if source.kind == "hfds":
        if find_spec("datasets") is None:
            raise MissingExtraError(f"{source} needs Hugging Face datasets; run: pip install 'sparsesearch[data]'")
        if source.path is not None and not source.path.exists():
            raise DataError(f"no such data: {source.path}")
    elif source.name not in (*_TORCH_SMALL, *_TORCH_LARGE):
        known = ", ".join((*_TORCH_SMALL, *_TORCH_LARGE, *_TORCH_FOLDER))
        raise DataError(f"cannot read {source.name!r} with torchvision; known are {known}")
    train = NamedImages(_named_split(source, "train"), what=f"{source} (train)", mode=mode)
    test = NamedImages(_named_split(source, "validation"), what=f"{source} (validation)", mode=mode)
    train_labels, test_labels = train.labels(), test.labels()
    num_classes = train.num_classes(train_labels)
    if max(test_labels) >= num_classes:
        raise DataError(f"{source} has class {max(test_labels)} in its validation split, but none such in train")
    for samples in (train, test):
        for index in range(0, len(samples), max(1, len(samples) // _NUM_DECODED)):
            samples[index]
    held_out, rest = hold_out(len(train), spec.val_fraction)
    digest = hashlib.sha256(f"{source}|val share {spec.val_fraction}".encode())
    for labels in (train_labels, test_labels):
        digest.update(np.asarray(labels, dtype=np.int64).tobytes())
    return Splits(num_classes, digest.hexdigest(), (train, rest), (train, held_out), (test, range(len(test))))


def _named_split(source: Source, split: str) -> Any:
    try:
        if source.kind == "torch":
            # The small ones are fetched where they are not there yet.
            download = source.name in _TORCH_SMALL
            return create_dataset(f"torch/{source.name}", root=str(source.path), split=split, download=download)
        return _hugging_face(str(source.path or source.name), split=split)
    except DataError:
        raise
    except Exception as error:  # dataset readers raise all kinds of errors for a missing data set
        raise DataError(f"cannot open {source} ({split}): {one_line(error)[:160]}") from error


def _hugging_face(name: str, *, split: str) -> Any:
    """One split with its columns found by type; many data sets call their validation images `test`."""
    import datasets

    builder = datasets.load_dataset_builder(name)
    features = builder.info.features or datasets.load_dataset(name, split="train").features
    images = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if not labels and "label" in features:
        labels = ["label"]
    if not images or not labels:
        raise DataError(f"{name} has no column of images with one of class labels, but {', '.join(features)}")
    splits = datasets.get_dataset_split_names(name)
    if split not in splits and split != "train":
        split = next((other for other in ("valid", "val", "test") if other in splits), split)
    label = "label" if "label" in labels else labels[0]
    return create_dataset(f"hfds/{name}", root=None, split=split, input_key=images[0], target_key=label)


def shuffled(count: int) -> list[int]:
    """A fixed random order."""
    order: list[int] = np.random.default_rng(_SPLIT_SEED).permutation(count).tolist()
    return order


def hold_out(count: int, share: float) -> tuple[list[int], list[int]]:
    """(held out, rest): a fixed random choice.

    Raises:
        DataError: Nothing would be left.
    """
    order = shuffled(count)
    size = max(2, round(share * count))
    if size >= count - 1:
        raise DataError(f"{count} training images are too few to hold out {share:.0%} for validation")
    return order[:size], order[size:]

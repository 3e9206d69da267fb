"""Data sets of torchvision and Hugging Face, opened with timm's factory."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.error import URLError

import PIL
from timm.data.dataset_factory import create_dataset

from sparsesearch.data.content import Contents, combined, on_all_cores
from sparsesearch.data.decoding import decoded
from sparsesearch.data.named_contents import named_digest
from sparsesearch.data.samples import NUM_DECODED, Account, Sample, Splits, check_classes, quoted, search_order
from sparsesearch.data.source import TORCH_FOLDERS, Source
from sparsesearch.data.stratified import halves, hold_out
from sparsesearch.errors import DataError, MissingExtraError, one_line
from sparsesearch.study.spec import DataSpec

_TORCH_SMALL = ("cifar10", "cifar100", "mnist", "kmnist", "fashion_mnist")
_TORCH_LARGE = ("imagenet", "places365")


class NamedImages:
    """A data set of timm's factory.

    Args:
        dataset: A data set of torchvision, or timm's wrapper of one of Hugging Face.
        what: Name used in error messages.
        mode: Pillow image mode.
    """

    def __init__(self, dataset: Any, *, what: str, mode: str) -> None:
        self.dataset = dataset
        self._reader = getattr(dataset, "reader", None)
        self._what = what
        self._mode = mode

    def __len__(self) -> int:
        return len(self.dataset)

    def name_of(self, index: int) -> str:
        """Name of a sample in messages."""
        return f"sample {index} of {self._what}"

    def __getitem__(self, index: int) -> Sample:
        what = self.name_of(index)
        if self._reader is None:
            image, label = self.dataset[index]
            return decoded(image, mode=self._mode, what=what), int(label)
        try:
            file, label = self._reader[index]  # timm itself would silently replace a corrupt image by another one
        except (OSError, AssertionError) as error:
            raise DataError(f"{what} has no image ({one_line(error)})") from error
        with file:
            return decoded(file, mode=self._mode, what=what), int(label)

    def labels(self) -> list[int]:
        """The labels of all samples; no image is read.

        Raises:
            DataError: The labels are not numbers from 0.
        """
        found = self.dataset.targets if self._reader is None else self._reader.dataset[self._reader.label_key]
        try:
            labels = [int(label) for label in found]
        except (TypeError, ValueError) as error:
            raise DataError(f"the labels of {self._what} are not integers ({one_line(error)})") from error
        if min(labels, default=-1) < 0:
            raise DataError(f"{self._what} has no labels" if labels else f"{self._what} is empty")
        return labels

    def num_classes(self, labels: Sequence[int]) -> int:
        """Number of classes that the data set declares, or that occur in the labels if there are more."""
        features = {} if self._reader is None else self._reader.dataset.features
        declared = getattr(features.get(getattr(self._reader, "label_key", "")), "num_classes", None)
        return max(declared or 0, max(labels) + 1)

    def class_names(self) -> tuple[str, ...]:
        """Names of the classes that the data set declares, in the order of their labels; empty if it has none."""
        features = {} if self._reader is None else self._reader.dataset.features
        declared = getattr(features.get(getattr(self._reader, "label_key", "")), "names", None)
        named = declared or getattr(self.dataset, "classes", None) or ()
        # ImageNet's classes are tuples of synonyms.
        return tuple(name if isinstance(name, str) else ", ".join(map(str, name)) for name in named)


def open_named(source: Source, spec: DataSpec, *, mode: str, contents: Contents) -> Splits:
    """Open a data set by its name, with the splits that it defines; see `docs/data.md`.

    Raises:
        DataError: The data set is missing, empty, or cannot be read.
        MissingExtraError: A package needed to read the data is not installed.
    """
    if source.kind == "hfds":
        if find_spec("datasets") is None:
            raise MissingExtraError(f"{source} requires Hugging Face datasets; run: pip install 'sparsesearch[data]'")
        if source.path is not None and not source.path.exists():
            raise DataError(f"no such data: {source.path}")
        if source.path is None and Path(source.name).exists():  # which the library would read in its place
            raise DataError(f"{source.name} is a folder here; write hfds:{source.name} to read it")
    elif source.name not in (*_TORCH_SMALL, *_TORCH_LARGE):
        known = ", ".join((*_TORCH_SMALL, *_TORCH_LARGE, *TORCH_FOLDERS))
        raise DataError(f"torchvision data set {source.name!r} is not supported; choose one of {known}")
    train = NamedImages(_named_split(source, "train"), what=f"{source} (train)", mode=mode)
    test = NamedImages(_named_split(source, "validation"), what=f"{source} (validation)", mode=mode)
    train_labels, test_labels = train.labels(), test.labels()
    num_classes = max(train.num_classes(train_labels), max(test_labels) + 1)
    declared = train.class_names()
    names = declared if len(declared) == num_classes else tuple(map(str, range(num_classes)))
    digests = [named_digest(samples.dataset, contents) for samples in (train, test)]
    is_half = spec.val == "half"
    fingerprint = combined(source.kind, *["half"] * is_half, spec.val_fraction, spec.on_broken, *digests)
    skipped = [
        _broken(samples, spec, contents, name=f"broken {PIL.__version__} {mode} {digest}")
        for samples, digest in zip((train, test), digests, strict=True)
    ]
    if is_half:
        held_out, final = halves(range(len(test)), test_labels)
        searched, searched_labels, rest = test, test_labels, list(range(len(train)))
    else:
        held_out, rest = hold_out(train_labels, spec.val_fraction)
        searched, searched_labels, final = train, train_labels, list(range(len(test)))
    kept, tested = (
        [n for n in sorted(part) if n not in gone] for part, gone in zip((rest, final), skipped, strict=True)
    )
    val = search_order(held_out, searched_labels, without=skipped[is_half])
    trained = [train_labels[index] for index in kept]
    others = {"search validation": [searched_labels[n] for n in val], "test": [test_labels[n] for n in tested]}
    notes = check_classes(trained, others, names=names, what=str(source))
    if absent := sorted(set(range(num_classes)) - set(trained)):
        notes += (f"no images of {quoted([names[label] for label in absent])}, which the data declares",)
    broken = [
        samples.name_of(index) for samples, gone in zip((train, test), skipped, strict=True) for index in sorted(gone)
    ]
    left_out = {"broken images": len(broken)} if broken else {}
    account = Account(left_out, tuple(broken), notes, val_is_of_train=not is_half)
    parts = ((train, kept), (searched, val), (test, tested))
    return Splits(num_classes, fingerprint, *parts, class_names=declared if names == declared else (), account=account)


def _broken(samples: NamedImages, spec: DataSpec, contents: Contents, *, name: str) -> frozenset[int]:
    """Indices of the samples to be left out; with `stop`, some are decoded, and a broken one is an error."""
    if spec.on_broken == "stop":
        for index in range(0, len(samples), max(1, len(samples) // NUM_DECODED)):
            samples[index]
        return frozenset()

    def is_broken(index: int) -> bool:
        try:
            samples[index]
        except DataError:
            return True
        return False

    def find() -> list[int]:
        with contents.progress.bar(f"decoding {len(samples):,} images", len(samples)) as bar:
            found = on_all_cores(is_broken, range(len(samples)), each=bar.advance)
        return [index for index, bad in enumerate(found) if bad]

    return frozenset(contents.remembered(name, find))


def _named_split(source: Source, split: str) -> Any:
    try:
        if source.kind == "torch":
            # Small data sets are downloaded if necessary.
            download = source.name in _TORCH_SMALL
            return create_dataset(f"torch/{source.name}", root=str(source.path), split=split, download=download)
        return _hugging_face(str(source.path or source.name), split=split)
    except DataError:
        raise
    except URLError as error:
        raise DataError(
            f"{source.name} is not in {source.path}, and downloading it failed ({error.reason}); put it there"
        ) from error
    except Exception as error:  # readers raise many exception types for a missing data set
        raise DataError(f"cannot open {source} ({split}): {one_line(error)[:160]}") from error


def _hugging_face(name: str, *, split: str) -> Any:
    """Open one split, with columns found by type; many data sets name their validation images `test`."""
    import datasets

    builder = datasets.load_dataset_builder(name)
    features = builder.info.features or datasets.load_dataset(name, split="train").features
    images = [key for key, feature in features.items() if isinstance(feature, datasets.Image)]
    labels = [key for key, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    if not labels and "label" in features:
        labels = ["label"]
    if not images or not labels:
        raise DataError(f"{name} lacks a column of images or of class labels; its columns are {', '.join(features)}")
    splits = datasets.get_dataset_split_names(name)
    if split not in splits and split != "train":
        split = next((other for other in ("valid", "val", "test") if other in splits), split)
    label = "label" if "label" in labels else labels[0]
    return create_dataset(f"hfds/{name}", root=None, split=split, input_key=images[0], target_key=label)

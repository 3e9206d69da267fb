"""Image folders and whatever timm's dataset factory opens, with timm's transforms."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.data.dataset_factory import create_dataset
from timm.data.transforms_factory import create_transform
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset, default_collate

from sparsesearch.errors import DataError, MissingExtraError, one_line
from sparsesearch.evaluate.task import Batch, Task, ValPart
from sparsesearch.seeds import derive_seed
from sparsesearch.spec import DataSpec

_SPLIT_SEED = 5
_NUM_CHECKED = 64
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}

Sample = tuple[Image.Image, int]


@dataclass(frozen=True)
class Preprocessing:
    """What the backbone's weights were trained with.

    Attributes:
        image_size: Pixels.
        in_chans: 1 or 3 channels.
        mean: Channel means.
        std: Channel standard deviations.
        interpolation: Name of the resize filter.
        crop_pct: Share of the resized image that is cropped for evaluation.
    """

    image_size: int
    in_chans: int = 3
    mean: tuple[float, ...] = IMAGENET_DEFAULT_MEAN
    std: tuple[float, ...] = IMAGENET_DEFAULT_STD
    interpolation: str = "bicubic"
    crop_pct: float = 0.9


class _Part(Dataset[tuple[Tensor, int]]):
    """Some samples of a data set in a given order, each transformed under a seed of its own."""

    def __init__(
        self, base: Sequence[Sample], order: Sequence[int], transform: Callable[[Image.Image], Tensor], *, seed: int
    ) -> None:
        self._base = base
        self._order = order
        self._transform = transform
        self._seed = seed

    def __len__(self) -> int:
        return len(self._order)

    def __getitem__(self, position: int) -> tuple[Tensor, int]:
        index = self._order[position]
        image, label = self._base[index]
        seed = derive_seed(self._seed, index)
        with torch.random.fork_rng(devices=[]):
            state = random.getstate()
            random.seed(seed)
            np_state = np.random.get_state()
            np.random.seed(seed % 2**32)
            torch.manual_seed(seed)
            try:
                return self._transform(image), int(label)
            finally:
                random.setstate(state)
                np.random.set_state(np_state)


@dataclass(frozen=True)
class Splits:
    """Map-style data and which of its samples belong to which split."""

    num_classes: int
    fingerprint: str
    train: tuple[Sequence[Sample], Sequence[int]]
    val: tuple[Sequence[Sample], Sequence[int]]
    test: tuple[Sequence[Sample], Sequence[int]]


class ImagesTask:
    """Training and validation parts of an image data set.

    Args:
        splits: The data; the test part is not kept.
        preprocessing: Size and normalisation.
        spec: Loader settings.
    """

    def __init__(self, splits: Splits, preprocessing: Preprocessing, spec: DataSpec) -> None:
        self.num_classes = splits.num_classes
        self.in_chans = preprocessing.in_chans
        self.image_size = preprocessing.image_size
        self.num_train = len(splits.train[1])
        self.num_val = min(spec.num_val_images or len(splits.val[1]) // 2, len(splits.val[1]) // 2)
        text = f"{splits.fingerprint}|{preprocessing}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._train = splits.train
        self._val = splits.val
        self._spec = spec
        self._preprocessing = preprocessing

    def fresh_epoch(self, *, epoch: int, seed: int, batch_size: int, num_images: int | None) -> Iterator[Batch]:
        """Augmented training images (random resized crop, RandAugment, colour jitter); see `Task.fresh_epoch`."""
        base, indices = self._train
        rng = np.random.default_rng(derive_seed(seed, "images", epoch))
        order = rng.permutation(np.asarray(indices))[: num_images or None]
        transform = _transform(self._preprocessing, is_training=True)
        part = _Part(base, order.tolist(), transform, seed=derive_seed(seed, "augment", epoch))
        yield from self._batches(part, batch_size=batch_size, drop_last=len(part) >= batch_size)

    def pool_epoch(self, *, epoch: int, seed: int, batch_size: int, num_images: int | None) -> Iterator[Batch]:
        """The same as `fresh_epoch`: augmented images are no fixed pool, so teacher targets are computed online."""
        yield from self.fresh_epoch(epoch=epoch, seed=seed, batch_size=batch_size, num_images=num_images)

    def pool(self, *, batch_size: int) -> None:
        """There is no fixed pool."""

    def val(self, part: ValPart, *, batch_size: int) -> Iterator[Batch]:
        """Every other validation image: the two parts share none."""
        base, indices = self._val
        chosen = list(indices)[0 if part == "screen" else 1 :: 2][: self.num_val]
        yield from self.evaluation(base, chosen, batch_size=batch_size)

    def evaluation(self, base: Sequence[Sample], order: Sequence[int], *, batch_size: int) -> Iterator[Batch]:
        """Batches of the given samples, resized and centre-cropped."""
        part = _Part(base, order, _transform(self._preprocessing, is_training=False), seed=0)
        yield from self._batches(part, batch_size=batch_size, drop_last=False)

    def _batches(self, part: _Part, *, batch_size: int, drop_last: bool) -> Iterator[Batch]:
        loader = DataLoader(
            part,
            batch_size=batch_size,
            drop_last=drop_last,
            num_workers=self._spec.workers,
            pin_memory=torch.cuda.is_available(),
            collate_fn=default_collate,
        )
        for images, labels in loader:
            yield Batch(images=images, labels=labels)


class ImagesTest(ImagesTask):
    """The test part of an image data set; only retraining and final reports may make one."""

    def __init__(self, splits: Splits, preprocessing: Preprocessing, spec: DataSpec) -> None:
        super().__init__(splits, preprocessing, spec)
        self._test = splits.test

    def test(self, *, batch_size: int) -> Iterator[Batch]:
        """All test images."""
        yield from self.evaluation(*self._test, batch_size=batch_size)


def _transform(preprocessing: Preprocessing, *, is_training: bool) -> Callable[[Image.Image], Tensor]:
    size = (preprocessing.in_chans, preprocessing.image_size, preprocessing.image_size)
    transform: Callable[[Image.Image], Tensor] = create_transform(
        size,
        is_training=is_training,
        auto_augment="rand-m9-mstd0.5-inc1" if is_training and preprocessing.in_chans == 3 else None,
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean[: preprocessing.in_chans],
        std=preprocessing.std[: preprocessing.in_chans],
        crop_pct=preprocessing.crop_pct,
    )
    return transform


def open_splits(spec: DataSpec, *, in_chans: int) -> Splits:
    """Open `folder:PATH` or a timm dataset name.

    Raises:
        DataError: Missing, empty, or unreadable data; a data set that cannot be indexed.
        MissingExtraError: The reader of this kind of data set is not installed.
    """
    if spec.source.startswith("folder:"):
        return _open_folder(Path(spec.source.removeprefix("folder:")).expanduser(), spec, in_chans=in_chans)
    if "/" not in spec.source:
        raise DataError(
            f"cannot read the data source {spec.source!r}; write 'digits', 'folder:PATH', or a timm dataset name "
            "such as 'hfds/OWNER/NAME', 'wds/NAME' or 'torch/cifar10'"
        )
    return _open_named(spec, in_chans=in_chans)


def _open_folder(path: Path, spec: DataSpec, *, in_chans: int) -> Splits:
    if not path.is_dir():
        raise DataError(f"no such data folder: {path}")
    val = next((path / name for name in ("val", "validation") if (path / name).is_dir()), None)
    if (path / "train").is_dir() and val is not None:
        train_set = _folder_part(path / "train", in_chans=in_chans)
        val_set = _folder_part(val, in_chans=in_chans)
        parts = {"train": train_set, "val": val_set}
        if (path / "test").is_dir():
            parts["test"] = _folder_part(path / "test", in_chans=in_chans)
        classes = _class_folders(path / "train")
        for folder in (val, path / "test"):
            if folder.is_dir() and _class_folders(folder) != classes:
                raise DataError(f"{folder} does not have the same class folders as {path / 'train'}")
        num_classes = len(classes)
        fingerprint = _hash_files([path])
        if "test" in parts:
            return Splits(
                num_classes,
                fingerprint,
                train=(train_set, range(len(train_set))),
                val=(val_set, _shuffled(len(val_set))),
                test=(parts["test"], range(len(parts["test"]))),
            )
        held_out, rest = _hold_out(len(train_set), spec.val_share)
        return Splits(
            num_classes,
            fingerprint,
            train=(train_set, rest),
            val=(train_set, held_out),
            test=(val_set, range(len(val_set))),
        )
    whole = _folder_part(path, in_chans=in_chans)
    test, rest = _hold_out(len(whole), spec.val_share)
    val_size = len(test)
    return Splits(
        len(_class_folders(path)),
        _hash_files([path]),
        train=(whole, rest[val_size:]),
        val=(whole, rest[:val_size]),
        test=(whole, test),
    )


def _class_folders(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir() if entry.is_dir())


def _folder_part(path: Path, *, in_chans: int) -> Sequence[Sample]:
    """A timm image folder whose classes all hold readable images."""
    folders = [path / name for name in _class_folders(path)]
    if len(folders) < 2:
        raise DataError(
            f"{path} has {len(folders)} class folders; put the images of each class into a folder of its own"
        )
    files: list[Path] = []
    for folder in folders:
        images = [f for f in sorted(folder.rglob("*")) if f.suffix.lower() in _IMAGE_SUFFIXES]
        if not images:
            raise DataError(f"the class folder {folder} holds no images ({', '.join(sorted(_IMAGE_SUFFIXES))})")
        files.extend(images)
    for file in files[:: max(1, len(files) // _NUM_CHECKED)]:
        try:
            with Image.open(file) as image:
                image.load()
        except (UnidentifiedImageError, OSError) as error:
            raise DataError(f"{file} is not a readable image ({one_line(error)}); remove or replace it") from error
    dataset: Sequence[Sample] = create_dataset("", root=str(path), input_img_mode="RGB" if in_chans == 3 else "L")
    return dataset


def _open_named(spec: DataSpec, *, in_chans: int) -> Splits:
    mode = "RGB" if in_chans == 3 else "L"
    parts: dict[str, Sequence[Sample]] = {}
    for split in ("train", "validation"):
        try:
            parts[split] = create_dataset(spec.source, root=None, split=split, input_img_mode=mode)
        except ImportError as error:
            package = {"hfds": "datasets", "wds": "webdataset"}.get(spec.source.split("/")[0], "its reader")
            raise MissingExtraError(f"{spec.source} needs {package}: pip install {package}") from error
        except Exception as error:  # dataset readers raise all kinds of errors for a missing data set
            raise DataError(f"cannot open {spec.source} ({split}): {one_line(error)[:160]}") from error
        if isinstance(parts[split], IterableDataset):
            raise DataError(f"{spec.source} is a stream; convert it to an image folder and use folder:PATH")
        if len(parts[split]) == 0:
            raise DataError(f"{spec.source} ({split}) is empty")
    train, val = parts["train"], parts["validation"]
    labels = {int(train[i][1]) for i in range(0, len(train), max(1, len(train) // 5000))}
    num_classes = max(labels) + 1
    held_out, rest = _hold_out(len(train), spec.val_share)
    fingerprint = hashlib.sha256(f"{spec.source}|{len(train)}|{len(val)}".encode()).hexdigest()
    return Splits(num_classes, fingerprint, (train, rest), (train, held_out), (val, range(len(val))))


def _shuffled(count: int) -> list[int]:
    order: list[int] = np.random.default_rng(_SPLIT_SEED).permutation(count).tolist()
    return order


def _hold_out(count: int, share: float) -> tuple[list[int], list[int]]:
    """(held out, rest): a fixed random choice."""
    order = _shuffled(count)
    size = max(2, round(share * count))
    if size >= count - 1:
        raise DataError(f"{count} training images are too few to hold out {share:.0%} for validation")
    return order[:size], order[size:]


def _hash_files(folders: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            if file.suffix.lower() in _IMAGE_SUFFIXES:
                digest.update(f"{file.relative_to(folder)}:{file.stat().st_size}\n".encode())
    return digest.hexdigest()


_: type[Task] = ImagesTask

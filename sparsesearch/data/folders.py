"""Image folders: one folder per class, in three layouts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from timm.utils.misc import natural_key

from sparsesearch.data.samples import NUM_DECODED, Sample, Splits, hold_out, shuffled
from sparsesearch.errors import DataError, one_line
from sparsesearch.study.spec import DataSpec

_NUM_OPENED = 10_000
_IMAGE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".tif", ".tiff"}


class FolderImages:
    """The images in the class folders of a folder, sorted by path.

    Args:
        root: Contains one folder per class; images may be in subfolders of these.
        classes: Names of the class folders in the order of their labels.
        mode: Pillow image mode.

    Raises:
        DataError: A class has no images, or one of the checked images cannot be read.
    """

    def __init__(self, root: Path, classes: Sequence[str], *, mode: str) -> None:
        self._mode = mode
        self._files: list[tuple[Path, int]] = []
        for label, name in enumerate(classes):
            images = [f for f in sorted((root / name).rglob("*")) if f.suffix.lower() in _IMAGE_SUFFIXES]
            if not images:
                raise DataError(
                    f"the class folder {root / name} contains no images ({', '.join(sorted(_IMAGE_SUFFIXES))})"
                )
            self._files.extend((image, label) for image in images)
        for index in range(0, len(self), max(1, len(self) // _NUM_OPENED)):
            _open_image(self._files[index][0]).close()
        for index in range(0, len(self), max(1, len(self) // NUM_DECODED)):
            self[index]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        path, label = self._files[index]
        return decoded(_open_image(path), mode=self._mode, what=str(path)), label

    def hash_into(self, digest: Any, *, root: Path) -> None:
        """Add names and sizes of all files to a hash."""
        for path, label in self._files:
            digest.update(f"{path.relative_to(root)}:{label}:{path.stat().st_size}\n".encode())


def open_folder(path: Path, spec: DataSpec, *, mode: str) -> Splits:
    """Open a folder with `train` and `val` (and optionally `test`), or with class folders; see `docs/data.md`.

    Raises:
        DataError: The folder is missing or empty, or its images cannot be read.
    """
    if not path.is_dir():
        raise DataError(f"no such data folder: {path}")
    val = next((path / name for name in ("val", "validation") if (path / name).is_dir()), None)
    if (path / "train").is_dir() and val is None:
        raise DataError(f"{path} has a folder train but no folder val; add one, or give a folder of class folders")
    digest = hashlib.sha256()
    if val is None:
        classes = _class_folders(path)
        whole = FolderImages(path, classes, mode=mode)
        whole.hash_into(digest, root=path)
        digest.update(f"val share {spec.val_fraction}".encode())
        test, rest = hold_out(len(whole), spec.val_fraction)
        held_out, rest = rest[: len(test)], rest[len(test) :]
        if len(rest) < len(test):
            raise DataError(f"{path} has {len(whole)} images, too few to split into train, validation and test")
        parts_of_whole = ((whole, rest), (whole, held_out), (whole, test))
        return Splits(len(classes), digest.hexdigest(), *parts_of_whole, class_names=tuple(classes))
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
            class_names=tuple(classes),
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
        class_names=tuple(classes),
    )


def _class_folders(path: Path) -> list[str]:
    """The class folders in timm's order: numbers in names are compared as numbers."""
    names = [entry.name for entry in path.iterdir() if entry.is_dir() and not entry.name.startswith(".")]
    if len(names) < 2:
        found = f"only the class folder {names[0]}" if names else "no class folders"
        raise DataError(f"{path} has {found}; put the images of each class into a separate folder")
    return sorted(names, key=natural_key)


def _open_image(path: Path) -> Image.Image:
    """Open an image and read its header."""
    try:
        return Image.open(path)
    except OSError as error:
        reason = "it is empty" if path.is_file() and path.stat().st_size == 0 else one_line(error)
        raise DataError(f"{path} is not a readable image ({reason}); remove or replace it") from error


def decoded(image: Image.Image, *, mode: str, what: str) -> Image.Image:
    """Decode an image and convert it to `mode`.

    Raises:
        DataError: The file, named by `what`, is corrupt.
    """
    try:
        with image:
            return image.convert(mode)
    except Exception as error:  # decoders raise many exception types for corrupt files
        raise DataError(f"{what} is not a readable image ({one_line(error)}); remove or replace it") from error

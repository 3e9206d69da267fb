"""Image folders: one folder per class, in the layouts of docs/data.md."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from sparsesearch.data.content import Contents, combined, note_broken
from sparsesearch.data.decoding import check_header, decoded
from sparsesearch.data.file_walk import IMAGE_SUFFIXES, LeftOut, image_files
from sparsesearch.data.layouts import Layout, find_layout, orders_differ
from sparsesearch.data.repaired import FolderImage, as_before
from sparsesearch.data.samples import NUM_DECODED, Account, Sample, Splits, check_classes, quoted, search_order
from sparsesearch.data.stratified import hold_out
from sparsesearch.errors import DataError
from sparsesearch.study.spec import DataSpec

_NUM_OPENED = 10_000
BROKEN = "broken images"
Matches = Callable[[str], bool]
"""Whether data with this hash are those that a study began with."""


class FolderImages:
    """Image files.

    Args:
        images: The files, with their classes.
        mode: Pillow image mode.
        source: Names the data in errors.
        contents: Remembers what is found to be broken.
    """

    def __init__(self, images: Sequence[FolderImage], *, mode: str, source: str, contents: Contents) -> None:
        self._mode = mode
        self._advice = f"remove or replace it; list all broken images with: sparsesearch data check {source} --all"
        self._cache = contents.cache
        self._files = [(image.file.path, image.label) for image in images]

    def __len__(self) -> int:
        return len(self._files)

    def __getitem__(self, index: int) -> Sample:
        path, label = self._files[index]
        try:
            return decoded(path, mode=self._mode, what=path, advice=self._advice), label
        except DataError:
            note_broken(path, self._cache)
            raise

    def check_some(self) -> None:
        """Decode 64 images and open 10,000, evenly spread.

        Raises:
            DataError: One of them is broken.
        """
        for index in range(0, len(self), max(1, len(self) // _NUM_OPENED)):
            check_header(self._files[index][0], advice=self._advice)
        for index in range(0, len(self), max(1, len(self) // NUM_DECODED)):
            self[index]


def open_folder(path: Path, spec: DataSpec, *, mode: str, contents: Contents, matches: Matches | None = None) -> Splits:
    """Open a folder with `train` and others, or with class folders; see `docs/data.md`.

    Args:
        path: The folder.
        spec: How to split it, number its classes, and treat broken images.
        mode: Pillow image mode.
        contents: Hashes the files.
        matches: Recognises the data of a study. If only images that were broken have been repaired or removed since it
            began, they are opened as that data.

    Raises:
        DataError: The folder is missing or has no such layout, a class lacks images, or images cannot be read.
    """
    root, left_out, notes = str(path), LeftOut(), []
    layout = find_layout(root, order=spec.class_order, left_out=left_out)
    images = _listing(layout, left_out=left_out)
    digests = contents.digests([image.file for image in images], below=root)
    images = [FolderImage(i.split, i.label, i.file, digest) for i, digest in zip(images, digests, strict=True)]
    fingerprint = _fingerprint(images, layout, spec)
    skipped: set[str] = set()
    if matches is not None and not matches(fingerprint):
        before = as_before(
            images,
            contents.cache.broken(root),
            folders=layout.splits,
            classes=layout.classes,
            accepts=lambda old: matches(_fingerprint(old, layout, spec)),
        )
        if before is not None:
            images, fingerprint = before.images, _fingerprint(before.images, layout, spec)
            skipped |= before.removed | (before.repaired if spec.on_broken == "skip" else frozenset())
            notes.append(before.line(are_used=spec.on_broken == "stop"))
    present = [image for image in images if image.file.path not in skipped]
    source = f"folder:{root}"
    broken: list[str] = []
    if spec.on_broken == "stop":
        FolderImages(present, mode=mode, source=source, contents=contents).check_some()
    else:
        found = contents.broken(
            [image.file for image in present],
            [image.digest for image in present],
            below=root,
            check=lambda index: decoded(present[index].file.path, mode=mode, what=present[index].file.path),
        )
        broken = [present[index].file.path for index in found]
    if skipped or broken:
        left_out.counts[BROKEN] += len(skipped) + len(broken)
        skipped |= set(broken)
    parts = _divided(images, layout, spec, without={n for n, image in enumerate(images) if image.file.path in skipped})
    labels = [[images[index].label for index in part] for part in parts]
    others = {"search validation": labels[1], "test": labels[2]}
    if missing := sorted(set(range(len(layout.classes))) - set(labels[0])):
        named = quoted([layout.classes[label] for label in missing])
        raise DataError(
            f"{layout.splits['train']} has no images of {named} to train on; add some, or remove the folder"
        )
    notes += check_classes(labels[0], others, names=layout.classes, what=root)
    given = [
        FolderImages([images[index] for index in part], mode=mode, source=source, contents=contents) for part in parts
    ]
    train, val, test = ((samples, range(len(samples))) for samples in given)
    account = Account(left_out.by_reason(), tuple(broken), tuple(notes), orders_differ(layout.classes))
    return Splits(len(layout.classes), fingerprint, train, val, test, class_names=layout.classes, account=account)


def _listing(layout: Layout, *, left_out: LeftOut) -> list[FolderImage]:
    """All images in the order of splits, classes and paths."""
    found = []
    labels = {name: label for label, name in enumerate(layout.classes)}
    for split, folder in layout.splits.items():
        for name in layout.folders[split]:
            files = image_files(f"{folder}/{name}", left_out=left_out)
            if not files and split == "train":
                known = ", ".join(sorted(IMAGE_SUFFIXES))
                raise DataError(f"the class folder {folder}/{name} contains no images ({known}); add some or remove it")
            found += [FolderImage(split, labels[name], file) for file in files]
    return sorted(found, key=lambda image: image.place)


def _fingerprint(images: Sequence[FolderImage], layout: Layout, spec: DataSpec) -> str:
    texts = (
        f"{image.split}/{layout.classes[image.label]}/{image.file.name}\n{image.label} {image.digest}"
        for image in images
    )
    return combined("whole" if layout.is_whole else "splits", spec.val_fraction, spec.on_broken, *texts)


def _divided(
    images: Sequence[FolderImage], layout: Layout, spec: DataSpec, *, without: set[int]
) -> tuple[list[int], list[int], list[int]]:
    """Indices of the training, search validation and test images; those left out change nothing for the others."""
    inside = {split: [n for n, image in enumerate(images) if image.split == split] for split in layout.splits}
    train, labels = inside["train"], [image.label for image in images]
    if layout.is_whole:
        test, val, train = hold_out(labels, spec.val_fraction, parts=2)
    elif "val" in inside and "test" in inside:
        val, test = inside["val"], inside["test"]
    else:
        test = inside["val" if "val" in inside else "test"]
        held_out, rest = hold_out([labels[index] for index in train], spec.val_fraction)
        val, train = ([train[position] for position in part] for part in (held_out, rest))
    for split, part in (("validation", val), ("test", test)):
        if not set(part) - without:
            raise DataError(f"{layout.splits['train']} has no readable {split} images; add some")
    kept = ([index for index in part if index not in without] for part in (train, test))
    return next(kept), search_order(val, labels, without=without), next(kept)

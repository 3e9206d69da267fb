"""Image folders: one folder per class, in the layouts of docs/data.md."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import PIL
from numpy.typing import NDArray

from sparsesearch.data.content import Contents, combined, combined_of, note_broken
from sparsesearch.data.decoding import check_header, decoded
from sparsesearch.data.file_walk import IMAGE_SUFFIXES, LeftOut, image_files
from sparsesearch.data.image_table import SPLITS, ImageTable, Listing
from sparsesearch.data.layouts import Layout, find_layout, orders_differ
from sparsesearch.data.manifest import Manifest, read_manifest, state_of
from sparsesearch.data.repaired import FolderImage, as_before
from sparsesearch.data.samples import NUM_DECODED, Account, Sample, Splits, check_classes, quoted, search_order
from sparsesearch.data.stratified import halves, hold_out
from sparsesearch.errors import DataError
from sparsesearch.study.spec import DataSpec

_NUM_OPENED = 10_000
BROKEN = "broken images"
Matches = Callable[[str], bool]
"""Whether data with this hash are those that a study began with."""


class FolderImages:
    """Image files.

    Args:
        table: The files, with their classes.
        mode: Pillow image mode.
        source: Names the data in errors.
        contents: Remembers what is found to be broken.
    """

    def __init__(self, table: ImageTable, *, mode: str, source: str, contents: Contents) -> None:
        self._mode = mode
        self._advice = f"remove or replace it; list all broken images with: sparsesearch data check {source} --all"
        self._cache = contents.cache
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Sample:
        path, label = self.table.path(index), int(self.table.labels[index])
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
            check_header(self.table.path(index), advice=self._advice)
        for index in range(0, len(self), max(1, len(self) // NUM_DECODED)):
            self[index]


def open_folder(
    path: Path,
    spec: DataSpec,
    *,
    mode: str,
    contents: Contents,
    matches: Matches | None = None,
    state: str = "",
) -> Splits:
    """Open a folder with `train` and others, or with class folders; see `docs/data.md`.

    Args:
        path: The folder.
        spec: How to split it, number its classes, and treat broken images.
        mode: Pillow image mode.
        contents: Hashes the files.
        matches: Recognises the data of a study. If only images that were broken have been repaired or removed since it
            began, they are opened as that data.
        state: `Splits.state` of another process, which is believed instead of looking at each file again.

    Raises:
        DataError: The folder is missing or has no such layout, a class lacks images, or images cannot be read.
    """
    root = str(path)
    options = (root, spec.class_order, spec.val, spec.val_fraction, spec.on_broken, PIL.__version__)
    file = contents.cache.folder / f"data-{combined(*options)[:16]}.safetensors"
    known = read_manifest(file, state=state) if state else None
    if known is None:
        left_out = LeftOut()
        layout = find_layout(root, order=spec.class_order, left_out=left_out)
        listing = Listing.of(_walk(layout, left_out=left_out), folders=layout.splits, classes=layout.classes)
        state = state_of(listing, left_out=left_out.by_reason())
        known = read_manifest(file, state=state)
        if known is None or (matches is not None and not matches(known.fingerprint)):
            known = _studied(
                listing, layout, spec, root=root, state=state, left_out=left_out, mode=mode, contents=contents,
                matches=matches,
            )  # fmt: skip
            if known.state:
                contents.cache.write(lambda: known.write(file))
                contents.report_problem()
    parts = [
        FolderImages(known.table.taken(part), mode=mode, source=f"folder:{root}", contents=contents)
        for part in (known.train, known.val, known.test)
    ]
    train, val, test = ((samples, range(len(samples))) for samples in parts)
    classes = known.table.classes
    return Splits(
        len(classes),
        known.fingerprint,
        train,
        val,
        test,
        class_names=classes,
        account=known.account,
        state=known.state,
    )


def _studied(
    listing: Listing,
    layout: Layout,
    spec: DataSpec,
    *,
    root: str,
    state: str,
    left_out: LeftOut,
    mode: str,
    contents: Contents,
    matches: Matches | None,
) -> Manifest:
    """Hash what is not known, check images, and split them."""
    notes: list[str] = []
    digests = contents.digest_rows(len(listing), listing.files)
    fingerprint = _fingerprint(listing.table, digests, layout, spec)
    skipped: set[str] = set()
    if matches is not None and not matches(fingerprint):
        groups = contents.cache.broken(root)
        before = as_before(
            listing.images(digests) if groups else (),
            groups,
            folders=layout.splits,
            classes=layout.classes,
            accepts=lambda old: matches(_fingerprint(*_tabulated(old, layout), layout, spec)),
        )
        if before is not None:
            state = ""  # it is not what the files are now
            table, digests = _tabulated(before.images, layout)
            listing = Listing(table, np.asarray([image.file.key for image in before.images], dtype=np.int64))
            fingerprint = _fingerprint(table, digests, layout, spec)
            skipped |= before.removed | (before.repaired if spec.on_broken == "skip" else frozenset())
            notes.append(before.line(are_used=spec.on_broken == "stop"))
    table = listing.table
    gone = {index for index in range(len(table)) if table.path(index) in skipped} if skipped else set[int]()
    present = np.setdiff1d(np.arange(len(table)), list(gone))
    broken: list[int] = []
    if spec.on_broken == "stop":
        FolderImages(table.taken(present), mode=mode, source=f"folder:{root}", contents=contents).check_some()
    else:
        found = contents.broken(
            digests[present],
            lambda indices: listing.files(present[list(indices)].tolist()),
            check=lambda index: decoded(path := table.path(present[index]), mode=mode, what=path),
        )
        broken = present[found].tolist()
    if gone or broken:
        left_out.counts[BROKEN] += len(gone) + len(broken)
    train, val, test = _divided(table, layout, spec, without=gone | set(broken))
    labels = [table.labels[part].tolist() for part in (train, val, test)]
    others = {"search validation": labels[1], "test": labels[2]}
    if missing := sorted(set(range(len(layout.classes))) - set(labels[0])):
        named = quoted([layout.classes[label] for label in missing])
        raise DataError(
            f"{layout.splits['train']} has no images of {named} to train on; add some, or remove the folder"
        )
    notes += check_classes(labels[0], others, names=layout.classes, what=root)
    account = Account(
        left_out.by_reason(),
        tuple(table.path(index) for index in broken),
        tuple(notes),
        orders_differ(layout.classes),
        val_is_of_train=spec.val == "train" and not {"val", "test"} <= set(layout.splits),
    )
    return Manifest(
        table,
        train=np.asarray(train, dtype=np.int32),
        val=np.asarray(val, dtype=np.int32),
        test=np.asarray(test, dtype=np.int32),
        fingerprint=fingerprint,
        state=state,
        account=account,
    )


def _walk(layout: Layout, *, left_out: LeftOut) -> Iterator[FolderImage]:
    """All images in the order of splits, classes and paths."""
    for split in SPLITS:
        present = set(layout.folders.get(split, ()))
        for label, name in enumerate(layout.classes):
            if name not in present:
                continue
            folder = f"{layout.splits[split]}/{name}"
            files = image_files(folder, left_out=left_out)
            if not files and split == "train":
                known = ", ".join(sorted(IMAGE_SUFFIXES))
                raise DataError(f"the class folder {folder} contains no images ({known}); add some or remove it")
            yield from (FolderImage(split, label, file) for file in files)


def _tabulated(images: Sequence[FolderImage], layout: Layout) -> tuple[ImageTable, NDArray[np.uint8]]:
    """Images and their digests in arrays."""
    table = Listing.of(images, folders=layout.splits, classes=layout.classes).table
    digests = b"".join(bytes.fromhex(image.digest) for image in images)
    return table, np.frombuffer(digests, dtype=np.uint8).reshape(len(images), -1)


def _fingerprint(table: ImageTable, digests: NDArray[np.uint8], layout: Layout, spec: DataSpec) -> str:
    numbers = zip(table.splits.tolist(), table.labels.tolist(), strict=True)
    texts = (
        f"{SPLITS[split]}/{layout.classes[label]}/{table.name(index)}\n{label} {digests[index].tobytes().hex()}"
        for index, (split, label) in enumerate(numbers)
    )
    kind = "whole" if layout.is_whole else "splits" if spec.val == "train" else "halves"
    return combined_of(chain((kind, spec.val_fraction, spec.on_broken), texts))


def _divided(
    table: ImageTable, layout: Layout, spec: DataSpec, *, without: set[int]
) -> tuple[list[int], list[int], list[int]]:
    """Indices of the training, search validation and test images; those left out change nothing for the others."""
    inside = {split: np.flatnonzero(table.splits == SPLITS.index(split)).tolist() for split in layout.splits}
    train, labels = inside["train"], table.labels.tolist()
    if spec.val == "half" and len(layout.splits) != 2:
        found = "none" if layout.is_whole else "both val and test"
        raise DataError(f"--val half divides the one folder next to train/, but there is {found}; omit --val half")
    if layout.is_whole:
        test, val, train = hold_out(labels, spec.val_fraction, parts=2)
    elif "val" in inside and "test" in inside:
        val, test = inside["val"], inside["test"]
    else:
        test = inside["val" if "val" in inside else "test"]
        if spec.val == "half":
            val, rest = halves(test, [labels[index] for index in test])
            test = sorted(rest)
        else:
            val, train = _held_out(train, labels, spec.val_fraction)
    for split, part in (("validation", val), ("test", test)):
        if not set(part) - without:
            raise DataError(f"{layout.splits['train']} has no readable {split} images; add some")
    kept = ([index for index in part if index not in without] for part in (train, test))
    return next(kept), search_order(val, labels, without=without), next(kept)


def _held_out(train: Sequence[int], labels: Sequence[int], fraction: float) -> tuple[list[int], list[int]]:
    """The training images that are held out for the search, and the others."""
    held_out, rest = hold_out([labels[index] for index in train], fraction)
    return [train[position] for position in held_out], [train[position] for position in rest]

"""WebDataset shards: tar files with `KEY.jpg` next to `KEY.cls`, found in a folder and split."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate, count, islice
from pathlib import Path

import PIL
from PIL import Image

from sparsesearch.data.content import Contents, combined
from sparsesearch.data.decoding import decoded
from sparsesearch.data.file_walk import found_file
from sparsesearch.data.samples import Account, check_classes, search_order
from sparsesearch.data.shard_reader import Entry, check_archive, read_entries
from sparsesearch.data.stratified import halves
from sparsesearch.errors import DataError, one_line
from sparsesearch.study.spec import DataSpec

_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
_DECODED_PER_SHARD = 8
_ADVICE = "write the shard again; list all broken images with: sparsesearch data check wds:FOLDER --all"
_READER = 1
"""Raised when shards are read in another way, so that nothing stored is taken over."""


@dataclass(frozen=True)
class Stream:
    """The shards of a data set.

    Attributes:
        num_classes: Number of classes.
        fingerprint: Hash of the contents of the shards, and of how they are split.
        num_train: Training images.
        train: Training shards.
        search: Validation shards, and the positions in them that are available to a search; those at even places
            screen, the others confirm.
        test: Shards of the test images, and their positions.
        skipped: Shards and positions in them of broken images.
        account: What was left out, and what may be unexpected.
    """

    num_classes: int
    fingerprint: str
    num_train: int
    train: tuple[Path, ...]
    search: tuple[tuple[Path, ...], tuple[int, ...]]
    test: tuple[tuple[Path, ...], tuple[int, ...]]
    skipped: frozenset[tuple[Path, int]] = frozenset()
    account: Account = field(default_factory=Account)


def open_stream(path: Path, spec: DataSpec, *, contents: Contents) -> Stream:
    """Find the shards in a folder, read the labels of all samples, and split the validation samples.

    If there are test shards, a search uses all validation samples; otherwise half of them.

    Args:
        path: The folder.
        spec: How broken images are treated.
        contents: Remembers what is in shards by their contents, so that they are read in full only once.

    Raises:
        DataError: Shards are missing, corrupt, or contain too few samples, or a class has no training images.
    """
    if not path.is_dir():
        raise DataError(f"no such data folder: {path}")
    info = _read_info(path)
    shards = {split: _shards(path, info, names) for split, names in _NAMES.items()}
    for split in ("train", "val"):
        if not shards[split]:
            raise DataError(
                f"{path} has no {split} shards; name them {split}-000000.tar and so on, or add an info.json"
            )
    digests: dict[Path, str] = {}
    for files in shards.values():
        found = contents.digests([found_file(str(shard)) for shard in files], below=str(path))
        digests.update(zip(files, found, strict=True))
    indexed = {shard: _indexed(shard, digest, contents) for shard, digest in digests.items()}
    labels = {split: [indexed[shard][0] for shard in files] for split, files in shards.items()}
    broken = {
        split: [_broken(shard, digests[shard], indexed[shard][1], spec, contents) for shard in files]
        for split, files in shards.items()
    }
    flat = {split: [label for shard in inside for label in shard] for split, inside in labels.items()}
    gone = {split: _flat_positions(broken[split], labels[split]) for split in shards}
    if len(flat["val"]) < 8:
        raise DataError(f"the validation shards of {path} contain {len(flat['val'])} samples; at least 8 are required")
    everything = list(range(len(flat["val"])))
    if shards["test"]:
        chosen, final, tested = everything, shards["test"], _left(range(len(flat["test"])), gone["test"])
        test_labels = [flat["test"][position] for position in tested]
    else:
        chosen, rest = halves(everything, flat["val"])
        final, tested = shards["val"], _left(sorted(rest), gone["val"])
        test_labels = [flat["val"][position] for position in tested]
    search = search_order(chosen, flat["val"], without=gone["val"])
    trained = [flat["train"][position] for position in _left(range(len(flat["train"])), gone["train"])]
    num_classes = _num_classes([*flat["train"], *flat["val"], *flat["test"]], trained, what=str(path))
    others = {"search validation": [flat["val"][position] for position in search], "test": test_labels}
    notes = check_classes(trained, others, names=list(map(str, range(num_classes))), what=str(path))
    all_broken = [
        (shard, position)
        for split, files in shards.items()
        for shard, bad in zip(files, broken[split], strict=True)
        for position in bad
    ]
    names = [f"image {position} of {shard}" for shard, position in all_broken]
    left_out = {"broken images": len(names)} if names else {}
    others_inside = {file for file in path.iterdir() if file.is_file() and file.suffix != ".json"}
    if ignored := len(others_inside - set(digests)):
        left_out["files that are no shards of a split"] = ignored
    return Stream(
        num_classes,
        combined(*(f"{split} {digests[shard]}" for split in shards for shard in shards[split]), spec.on_broken),
        len(trained),
        shards["train"],
        (shards["val"], tuple(search)),
        (final, tuple(tested)),
        skipped=frozenset(all_broken),
        account=Account(left_out, tuple(names), notes),
    )


@dataclass(frozen=True)
class _Listed:
    """A split as listed in an `info.json`."""

    shards: tuple[str, ...]


def _read_info(path: Path) -> dict[str, _Listed]:
    """Map splits to shards, from timm's `info.json` if there is one."""
    file = next((path / name for name in ("_info.json", "info.json") if (path / name).is_file()), None)
    if file is None:
        return {}
    try:
        splits = json.loads(file.read_text(encoding="utf-8"))["splits"]
        return {str(name): _Listed(tuple(map(str, split["filenames"]))) for name, split in splits.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} does not list shards as splits.NAME.filenames ({one_line(error)})") from error


def _shards(path: Path, info: dict[str, _Listed], names: Sequence[str]) -> tuple[Path, ...]:
    """The shards of a split: listed, named `SPLIT-...`, or in a folder of its name; local files only."""
    for name in names:
        if info:
            found = [path / shard for shard in info[name].shards] if name in info else []
        else:
            inside = [*path.iterdir(), *((path / name).iterdir() if (path / name).is_dir() else ())]
            found = sorted(file for file in inside if _is_shard(file, name))
        missing = [shard for shard in found if not shard.is_file()]
        if missing:
            raise DataError(f"no such shard: {missing[0]}")
        if found:
            return tuple(found)
    return ()


def _is_shard(file: Path, split: str) -> bool:
    name = file.name.lower()
    if name.startswith(".") or not name.endswith(_SUFFIXES):
        return False
    return file.parent.name == split or (name.startswith(split) and not name[len(split)].isalnum())


def _indexed(shard: Path, digest: str, contents: Contents) -> tuple[list[int], list[int]]:
    """The classes of all samples of a shard, and the positions of images which are broken at first glance.

    The first images are decoded, the headers of all others read.
    """

    def find() -> list[list[int]]:
        check_archive(shard)
        labels: list[int] = []
        bad: list[int] = []
        with contents.progress.bar(f"reading {shard.name}", None) as bar:
            for number, entry in enumerate(read_entries([shard])):
                labels.append(entry.label)
                if not _is_readable(entry, in_full=number < _DECODED_PER_SHARD):
                    bad.append(number)
                bar.advance()
        return [labels, bad]

    labels, bad = contents.remembered(f"shard {_READER} {PIL.__version__} {digest}", find)
    return labels, bad


def _broken(shard: Path, digest: str, bad: list[int], spec: DataSpec, contents: Contents) -> list[int]:
    """Positions of the images of a shard to be left out: all that cannot be decoded, or none, as they are errors."""

    def find() -> list[int]:
        with contents.progress.bar(f"decoding {shard.name}", None) as bar:
            found = []
            for number, entry in enumerate(read_entries([shard])):
                if not _is_readable(entry, in_full=True):
                    found.append(number)
                bar.advance()
        return found

    if spec.on_broken == "skip":
        return contents.remembered(f"broken {_READER} {PIL.__version__} {digest}", find)
    if bad:
        decode_entry(next(islice(read_entries([shard]), bad[0], None)), mode="RGB")
    return []


def _is_readable(entry: Entry, *, in_full: bool) -> bool:
    try:
        if in_full:
            decode_entry(entry, mode="RGB")
        else:
            Image.open(io.BytesIO(entry.image)).close()
    except Exception:  # decoders raise many exception types for corrupt files
        return False
    return True


def _left(positions: Sequence[int], gone: frozenset[int]) -> list[int]:
    return [position for position in positions if position not in gone]


def _flat_positions(broken: Sequence[Sequence[int]], labels: Sequence[Sequence[int]]) -> frozenset[int]:
    """Positions in all shards of a split of samples given by their positions in each."""
    starts = accumulate(map(len, labels), initial=0)
    return frozenset(start + position for start, inside in zip(starts, broken, strict=False) for position in inside)


def _num_classes(labels: Sequence[int], trained: Sequence[int], *, what: str) -> int:
    """One more than the largest label, if every class up to it has training images."""
    used = set(trained)
    least = next(label for label in count() if label not in used)
    if least <= max(labels):
        raise DataError(
            f"{what} has labels up to {max(labels)}, but no training images of class {least}; number the classes from 0"
        )
    if least < 2:
        raise DataError(f"{what} has only one class; at least two are required")
    return least


def decode_entry(entry: Entry, *, mode: str) -> Image.Image:
    """Decode the image of a sample.

    Raises:
        DataError: It is broken.
    """
    what = f"the image of {entry.where}"
    return decoded(io.BytesIO(entry.image), mode=mode, what=what, advice=_ADVICE)

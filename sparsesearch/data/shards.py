"""WebDataset shards: tar files with `KEY.jpg` next to `KEY.cls`, found in a folder and split."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, count, islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from sparsesearch.data.content import Contents, combined
from sparsesearch.data.file_walk import found_file
from sparsesearch.data.samples import Account, Splits, check_classes, search_order
from sparsesearch.data.shard_reader import Entry, check_archive, read_entries
from sparsesearch.data.shard_samples import ShardSamples, decode_entry
from sparsesearch.data.stratified import halves
from sparsesearch.errors import DataError, one_line
from sparsesearch.study.spec import DataSpec

_SUFFIXES = (".tar", ".tar.gz", ".tgz")
_NAMES = {"train": ("train", "training"), "val": ("val", "valid", "validation"), "test": ("test", "testing")}
_DECODED_PER_SHARD = 8
_NONE = np.empty((0, 5), dtype=np.int64)
_READER = 2
"""Raised when shards are read in another way, so that nothing stored is taken over."""


def open_shards(path: Path, spec: DataSpec, *, mode: str, contents: Contents) -> Splits:
    """Find the shards in a folder, read the labels of all samples, and split the validation samples.

    If there are test shards, a search uses all validation samples; otherwise half of them.

    Args:
        path: The folder.
        spec: How broken images are treated.
        mode: Pillow image mode.
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
        found = contents.digests([found_file(str(shard)) for shard in files])
        digests.update(zip(files, found, strict=True))
    indexed = {shard: _indexed(shard, digest, contents) for shard, digest in digests.items()}
    samples = {
        split: ShardSamples(
            tuple((shard, digests[shard]) for shard in files),
            np.concatenate([_numbered(number, indexed[shard].places) for number, shard in enumerate(files)] or [_NONE]),
            mode,
        )
        for split, files in shards.items()
    }
    flat = {split: inside.labels for split, inside in samples.items()}
    broken = {
        split: [_broken(shard, digests[shard], indexed[shard].bad, spec, contents) for shard in files]
        for split, files in shards.items()
    }
    gone = {
        split: _flat_positions(broken[split], [len(indexed[shard].places) for shard in files])
        for split, files in shards.items()
    }
    if len(flat["val"]) < 8:
        raise DataError(f"the validation shards of {path} contain {len(flat['val'])} samples; at least 8 are required")
    everything = list(range(len(flat["val"])))
    if shards["test"]:
        chosen, tested = everything, samples["test"].taken(_left(range(len(flat["test"])), gone["test"]))
    else:
        chosen, rest = halves(everything, flat["val"])
        tested = samples["val"].taken(_left(sorted(rest), gone["val"]))
    order = search_order(chosen, flat["val"], without=gone["val"])
    search = samples["val"].taken(sorted(order))
    trained = samples["train"].taken(_left(range(len(flat["train"])), gone["train"]))
    num_classes = _num_classes([*flat["train"], *flat["val"], *flat["test"]], trained.labels, what=str(path))
    others = {"search validation": search.labels, "test": tested.labels}
    notes = check_classes(trained.labels, others, names=list(map(str, range(num_classes))), what=str(path))
    names = [
        f"image {position} of {shard}"
        for split, files in shards.items()
        for shard, bad in zip(files, broken[split], strict=True)
        for position in bad
    ]
    left_out = {"broken images": len(names)} if names else {}
    others_inside = {file for file in path.iterdir() if file.is_file() and file.suffix != ".json"}
    if ignored := len(others_inside - set(digests)):
        left_out["files that are no shards of a split"] = ignored
    ranks = {position: rank for rank, position in enumerate(sorted(order))}
    return Splits(
        num_classes,
        combined(*(f"{split} {digests[shard]}" for split in shards for shard in shards[split]), spec.on_broken),
        (trained, range(len(trained))),
        (search, [ranks[position] for position in order]),
        (tested, range(len(tested))),
        account=Account(left_out, tuple(names), notes),
        train_runs=trained.runs(),
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


class _Index(NamedTuple):
    """What is in a shard.

    Attributes:
        places: int64 `samples x 3`: offset and size of the image file, class.
        bad: Positions of images which are broken at first glance.
    """

    places: NDArray[np.int64]
    bad: list[int]


def _indexed(shard: Path, digest: str, contents: Contents) -> _Index:
    """What is in a shard; the first images are decoded, the headers of all others read."""

    def find() -> list[list[int]]:
        check_archive(shard)
        places: list[int] = []
        bad: list[int] = []
        with contents.progress.bar(f"reading {shard.name}", None) as bar:
            for number, entry in enumerate(read_entries([shard])):
                places += (entry.offset, len(entry.image), entry.label)
                if not _is_readable(entry, in_full=number < _DECODED_PER_SHARD):
                    bad.append(number)
                bar.advance()
        return [places, bad]

    places, bad = contents.remembered(f"shard {_READER} {PIL.__version__} {digest}", find)
    return _Index(np.asarray(places, dtype=np.int64).reshape(-1, 3), bad)


def _numbered(shard: int, places: NDArray[np.int64]) -> NDArray[np.int64]:
    """The places of `ShardSamples`."""
    position = np.arange(len(places))
    return np.column_stack([np.full_like(position, shard), position, places])


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


def _flat_positions(broken: Sequence[Sequence[int]], lengths: Sequence[int]) -> frozenset[int]:
    """Positions in all shards of a split of samples given by their positions in each."""
    starts = accumulate(lengths, initial=0)
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

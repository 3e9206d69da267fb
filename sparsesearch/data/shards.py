"""WebDataset shards: tar files with `KEY.jpg` next to `KEY.cls`, read sequentially."""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from sparsesearch.data.loading import Preprocessing, Transform, transformed
from sparsesearch.data.samples import shuffled
from sparsesearch.errors import DataError, one_line
from sparsesearch.seeds import derive_seed

_IMAGES = ("jpg", "jpeg", "png", "webp")
_BUFFER = 2048
_NUM_DECODED = 64


@dataclass(frozen=True)
class _Entry:
    """An undecoded sample of a shard."""

    where: str
    image: bytes
    label: int


@dataclass(frozen=True)
class Stream:
    """The shards of a data set.

    Attributes:
        num_classes: Number of classes.
        fingerprint: Hash of names and sizes of the shards.
        num_train: Training images.
        train: Training shards.
        search: Validation shards, and the positions in them that are available to a search.
        test: Shards of the test images, and their positions.
    """

    num_classes: int
    fingerprint: str
    num_train: int
    train: tuple[Path, ...]
    search: tuple[tuple[Path, ...], tuple[int, ...]]
    test: tuple[tuple[Path, ...], tuple[int, ...]]


def open_stream(path: Path) -> Stream:
    """Find the shards in a folder, count their samples, and split the validation samples.

    If there are test shards, a search uses all validation samples; otherwise half of them.

    Raises:
        DataError: Shards are missing, corrupt, or contain too few samples.
    """
    if not path.is_dir():
        raise DataError(f"no such data folder: {path}")
    info = _read_info(path)
    train, val, test = (_shards(path, info, *names) for names in (("train",), ("val", "validation"), ("test",)))
    for name, shards in (("train", train), ("val", val)):
        if not shards:
            raise DataError(f"{path} has no {name} shards; name them {name}-000000.tar and so on, or add an info.json")
    labels = [entry.label for entry in read_entries(val, everything=False)]
    if len(labels) < 8:
        raise DataError(f"the validation shards of {path} contain {len(labels)} samples; at least 8 are required")
    for entry in islice(read_entries(val), _NUM_DECODED):
        _decode(entry, mode="L")
    order = shuffled(len(labels))
    if test:
        tested = tuple(range(sum(1 for _ in read_entries(test, everything=False))))
        search, finals = (val, tuple(order)), (test, tested)
    else:
        half = len(order) // 2
        search, finals = (val, tuple(order[:half])), (val, tuple(sorted(order[half:])))
    digest = hashlib.sha256()
    for shard in (*train, *val, *test):
        digest.update(f"{shard.relative_to(path)}:{shard.stat().st_size}\n".encode())
    counted = info["train"].num_samples if "train" in info else None
    num_train = counted or sum(1 for _ in read_entries(train, everything=False))
    return Stream(max(labels) + 1, digest.hexdigest(), num_train, train, search, finals)


@dataclass(frozen=True)
class _Listed:
    """A split as listed in an `info.json`."""

    shards: tuple[str, ...]
    num_samples: int | None


def _read_info(path: Path) -> dict[str, _Listed]:
    """Map splits to shards, from timm's `info.json` if there is one."""
    file = next((path / name for name in ("_info.json", "info.json") if (path / name).is_file()), None)
    if file is None:
        return {}
    try:
        splits = json.loads(file.read_text(encoding="utf-8"))["splits"]
        return {
            str(name): _Listed(tuple(map(str, split["filenames"])), split.get("num_samples"))
            for name, split in splits.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{file} does not list shards as splits.NAME.filenames ({one_line(error)})") from error


def _shards(path: Path, info: dict[str, _Listed], *names: str) -> tuple[Path, ...]:
    for name in names:
        found = [path / shard for shard in info[name].shards] if name in info else []
        if not info:
            found = sorted({*path.glob(f"{name}[-_.]*tar"), *(path / name).glob("*.tar")})
        missing = [shard for shard in found if not shard.is_file()]
        if missing:
            raise DataError(f"no such shard: {missing[0]}")
        if found:
            return tuple(found)
    return ()


def read_entries(shards: Sequence[Path], *, everything: bool = True) -> Iterator[_Entry]:
    """Iterate over the samples of shards in order; without `everything`, the bytes of the images are skipped."""
    for shard in shards:
        try:
            with tarfile.open(shard) as tar:
                key, members = "", dict[str, tarfile.TarInfo]()
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined]  # otherwise it keeps all members in memory
                    folder, slash, file = member.name.rpartition("/")
                    stem, _, extension = file.partition(".")
                    if not member.isfile() or file.startswith("__"):
                        continue
                    if (found := folder + slash + stem) != key:
                        if members:
                            yield _entry(tar, members, where=f"{key} in {shard}", everything=everything)
                        key, members = found, {}
                    members[extension.lower()] = member
                _check_end(tar)
                if members:
                    yield _entry(tar, members, where=f"{key} in {shard}", everything=everything)
        except (OSError, tarfile.TarError) as error:
            raise DataError(f"{shard} is not a readable tar file ({one_line(error)})") from error


def _check_end(tar: tarfile.TarFile) -> None:
    """Check for the zero block that ends an archive; tarfile silently accepts a truncated one."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the end of the archive is missing: it was truncated or overwritten")


def _entry(tar: tarfile.TarFile, members: dict[str, tarfile.TarInfo], *, where: str, everything: bool) -> _Entry:
    def content(member: tarfile.TarInfo) -> bytes:
        file = tar.extractfile(member)
        return b"" if file is None else file.read()

    image = next((members[kind] for kind in _IMAGES if kind in members), None)
    if image is None:
        raise DataError(f"the sample {where} has no image; expected one of {', '.join(_IMAGES)}")
    try:
        label = int(content(members["cls"])) if "cls" in members else int(json.loads(content(members["json"]))["label"])
    except (KeyError, ValueError, TypeError) as error:
        raise DataError(f"the sample {where} has no class label; store it as an integer in KEY.cls") from error
    return _Entry(where, content(image) if everything else b"", label)


def _decode(entry: _Entry, *, mode: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(entry.image)) as image:
            return image.convert(mode)
    except Exception as error:  # decoders raise many exception types for corrupt files
        raise DataError(f"the image of {entry.where} cannot be read ({one_line(error)})") from error


class ShuffledShards(IterableDataset[tuple[Tensor, int]]):
    """Training samples of one epoch; the worker processes read disjoint shards."""

    def __init__(self, stream: Stream, preprocessing: Preprocessing, *, seed: int) -> None:
        self._stream = stream
        self._mode = preprocessing.mode
        self._transform = preprocessing.transform(is_training=True)
        self._seed = seed

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        shards = list(self._stream.train)
        random.Random(self._seed).shuffle(shards)
        worker = get_worker_info()
        number = 0
        if worker is not None:
            number, shards = worker.id, shards[worker.id :: worker.num_workers]
        for position, entry in enumerate(_mixed(read_entries(shards), random.Random(derive_seed(self._seed, number)))):
            if not 0 <= entry.label < self._stream.num_classes:
                raise DataError(
                    f"the sample {entry.where} has class {entry.label}, but the validation shards contain only "
                    f"classes 0 to {self._stream.num_classes - 1}"
                )
            seed = derive_seed(self._seed, number, position)
            yield transformed(_decode(entry, mode=self._mode), self._transform, seed=seed), entry.label


def _mixed(entries: Iterator[_Entry], rng: random.Random) -> Iterator[_Entry]:
    """Shuffle entries with a buffer of fixed size."""
    buffer = list(islice(entries, _BUFFER))
    for entry in entries:
        index = rng.randrange(len(buffer))
        yield buffer[index]
        buffer[index] = entry
    rng.shuffle(buffer)
    yield from buffer


class SamplesAtPositions(IterableDataset[tuple[Tensor, int]]):
    """The samples at given positions of shards, in shard order."""

    def __init__(self, shards: Sequence[Path], positions: Sequence[int], transform: Transform, *, mode: str) -> None:
        self._shards = shards
        self._positions = frozenset(positions)
        self._transform = transform
        self._mode = mode

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        stop = max(self._positions, default=-1) + 1
        for position, entry in enumerate(islice(read_entries(self._shards), stop)):
            if position in self._positions:
                yield transformed(_decode(entry, mode=self._mode), self._transform, seed=0), entry.label

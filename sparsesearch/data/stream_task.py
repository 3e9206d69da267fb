"""WebDataset shards: tar files in which `KEY.jpg` stands beside `KEY.cls`, read from front to back.

A stream has no lookup by index. Training goes through the shards in an order of its own for each epoch, with a buffer
in which samples change places; the validation shards are split by the position of a sample in them.
"""

from __future__ import annotations

import hashlib
import io
import json
import random
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

from PIL import Image
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from sparsesearch.data.loading import Preprocessing, Transform, batches_of, transformed
from sparsesearch.data.splits import shuffled
from sparsesearch.data.task import Batch, Task, ValPart
from sparsesearch.errors import DataError, one_line
from sparsesearch.seeds import derive_seed
from sparsesearch.study.spec import DataSpec

_IMAGES = ("jpg", "jpeg", "png", "webp")
_BUFFER = 2048
_NUM_DECODED = 64


@dataclass(frozen=True)
class _Entry:
    """One sample of a shard, not decoded."""

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
        search: Validation shards, and the positions in them that a search may see.
        test: Shards of the test images, and their positions.
    """

    num_classes: int
    fingerprint: str
    num_train: int
    train: tuple[Path, ...]
    search: tuple[tuple[Path, ...], tuple[int, ...]]
    test: tuple[tuple[Path, ...], tuple[int, ...]]


def open_stream(path: Path) -> Stream:
    """Find the shards below a folder, count them, and split the validation samples.

    With shards for testing, all validation samples are for the search; without, half of them are.

    Raises:
        DataError: Shards are missing, broken, or hold too few samples.
    """
    if not path.is_dir():
        raise DataError(f"no such data folder: {path}")
    info = _read_info(path)
    train, val, test = (_shards(path, info, *names) for names in (("train",), ("val", "validation"), ("test",)))
    for name, shards in (("train", train), ("val", val)):
        if not shards:
            raise DataError(
                f"{path} has no {name} shards; name them {name}-000000.tar and so on, or write an info.json"
            )
    labels = [entry.label for entry in _read(val, everything=False)]
    if len(labels) < 8:
        raise DataError(f"the validation shards of {path} hold {len(labels)} samples; at least 8 are needed")
    for entry in islice(_read(val), _NUM_DECODED):
        _decode(entry, mode="L")
    order = shuffled(len(labels))
    if test:
        tested = tuple(range(sum(1 for _ in _read(test, everything=False))))
        search, finals = (val, tuple(order)), (test, tested)
    else:
        half = len(order) // 2
        search, finals = (val, tuple(order[:half])), (val, tuple(sorted(order[half:])))
    digest = hashlib.sha256()
    for shard in (*train, *val, *test):
        digest.update(f"{shard.relative_to(path)}:{shard.stat().st_size}\n".encode())
    counted = info["train"].num_samples if "train" in info else None
    num_train = counted or sum(1 for _ in _read(train, everything=False))
    return Stream(max(labels) + 1, digest.hexdigest(), num_train, train, search, finals)


@dataclass(frozen=True)
class _Listed:
    """What an `info.json` says of a split."""

    shards: tuple[str, ...]
    num_samples: int | None


def _read_info(path: Path) -> dict[str, _Listed]:
    """Split to shards, from timm's `info.json` where there is one."""
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


def _read(shards: Sequence[Path], *, everything: bool = True) -> Iterator[_Entry]:
    """The samples of shards in order; without `everything` the bytes of the images are passed over."""
    for shard in shards:
        try:
            with tarfile.open(shard) as tar:
                key, members = "", dict[str, tarfile.TarInfo]()
                for member in tar:
                    tar.members = []  # type: ignore[attr-defined]  # it would remember all of them
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
    """A whole archive ends in blocks of zeros; without them tarfile takes a broken one for a shorter one."""
    assert tar.fileobj is not None
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("its end is missing: it was cut short or overwritten")


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
        raise DataError(f"the sample {where} has no class number; put it into KEY.cls") from error
    return _Entry(where, content(image) if everything else b"", label)


def _decode(entry: _Entry, *, mode: str) -> Image.Image:
    try:
        with Image.open(io.BytesIO(entry.image)) as image:
            return image.convert(mode)
    except Exception as error:  # decoders raise many kinds of errors for broken files
        raise DataError(f"the image of {entry.where} cannot be read ({one_line(error)})") from error


class _Shuffled(IterableDataset[tuple[Tensor, int]]):
    """Training samples of one epoch; each worker process reads shards of its own."""

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
        for position, entry in enumerate(_mixed(_read(shards), random.Random(derive_seed(self._seed, number)))):
            if not 0 <= entry.label < self._stream.num_classes:
                raise DataError(
                    f"the sample {entry.where} is of class {entry.label}; the validation shards know classes 0 to "
                    f"{self._stream.num_classes - 1}"
                )
            seed = derive_seed(self._seed, number, position)
            yield transformed(_decode(entry, mode=self._mode), self._transform, seed=seed), entry.label


def _mixed(entries: Iterator[_Entry], rng: random.Random) -> Iterator[_Entry]:
    """Every entry once, each drawn from a buffer that the next ones refill."""
    buffer = list(islice(entries, _BUFFER))
    for entry in entries:
        place = rng.randrange(len(buffer))
        yield buffer[place]
        buffer[place] = entry
    rng.shuffle(buffer)
    yield from buffer


class _AtPositions(IterableDataset[tuple[Tensor, int]]):
    """The samples at given positions of shards, in the order of the shards."""

    def __init__(self, shards: Sequence[Path], positions: Sequence[int], transform: Transform, *, mode: str) -> None:
        self._shards = shards
        self._positions = frozenset(positions)
        self._transform = transform
        self._mode = mode

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        stop = max(self._positions, default=-1) + 1
        for position, entry in enumerate(islice(_read(self._shards), stop)):
            if position in self._positions:
                yield transformed(_decode(entry, mode=self._mode), self._transform, seed=0), entry.label


class StreamTask:
    """Training and validation parts of WebDataset shards.

    An epoch depends on (seed, epoch) and on the number of loader processes.

    Args:
        stream: The shards; where the test part lies is not kept.
        preprocessing: Size and normalisation.
        spec: Loader settings.
    """

    curriculum_share = 0.0

    def __init__(self, stream: Stream, preprocessing: Preprocessing, spec: DataSpec) -> None:
        self.num_classes = stream.num_classes
        self.in_chans = preprocessing.in_chans
        self.image_size = preprocessing.image_size
        self.num_train = stream.num_train
        half = len(stream.search[1]) // 2
        self.num_val = min(spec.num_val_images or half, half)
        text = f"{stream.fingerprint}|{preprocessing}"
        self.fingerprint = hashlib.sha256(text.encode()).hexdigest()[:16]
        self._stream = replace(stream, test=((), ()))
        self._workers = min(spec.workers, len(stream.train))
        self._preprocessing = preprocessing

    def fresh_epoch(self, *, epoch: int, seed: int, batch_size: int, num_images: int | None) -> Iterator[Batch]:
        """Augmented training images from shuffled shards; see `Task.fresh_epoch`."""
        images = min(num_images or self.num_train, self.num_train)
        batch_size = min(batch_size, images)
        part = _Shuffled(self._stream, self._preprocessing, seed=derive_seed(seed, "stream", epoch))
        batches = batches_of(part, batch_size=batch_size, drop_last=True, workers=self._workers)
        yield from islice(batches, images // batch_size)

    def pool_epoch(self, *, epoch: int, seed: int, batch_size: int, num_images: int | None) -> Iterator[Batch]:
        """The same as `fresh_epoch`: augmented images are no fixed pool, so teacher targets are computed online."""
        yield from self.fresh_epoch(epoch=epoch, seed=seed, batch_size=batch_size, num_images=num_images)

    def pool(self, *, batch_size: int) -> None:
        """There is no fixed pool."""

    def val(self, part: ValPart, *, batch_size: int) -> Iterator[Batch]:
        """Every other one of the search's validation samples: the two parts share none."""
        shards, positions = self._stream.search
        chosen = positions[0 if part == "screen" else 1 :: 2][: self.num_val]
        yield from self._evaluation(shards, chosen, batch_size=batch_size)

    def _evaluation(self, shards: Sequence[Path], positions: Sequence[int], *, batch_size: int) -> Iterator[Batch]:
        transform = self._preprocessing.transform(is_training=False)
        part = _AtPositions(shards, positions, transform, mode=self._preprocessing.mode)
        yield from batches_of(part, batch_size=batch_size, drop_last=False, workers=min(self._workers, 1))


class StreamTest(StreamTask):
    """The test part of WebDataset shards; only retraining and final reports may make one."""

    def __init__(self, stream: Stream, preprocessing: Preprocessing, spec: DataSpec) -> None:
        super().__init__(stream, preprocessing, spec)
        self._test = stream.test

    def test(self, *, batch_size: int) -> Iterator[Batch]:
        """All test images."""
        shards, positions = self._test
        yield from self._evaluation(shards, positions, batch_size=batch_size)


_: type[Task] = StreamTask

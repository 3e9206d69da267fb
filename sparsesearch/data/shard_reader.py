"""Read local WebDataset shards with webdataset's iterators: images and labels only, and nothing is decoded by them."""

from __future__ import annotations

import gzip
import json
import lzma
import tarfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from webdataset.tariterators import base_plus_ext, group_by_keys, tar_file_iterator

from sparsesearch.data.file_walk import is_hidden
from sparsesearch.errors import DataError, one_line

IMAGES = ("jpg", "jpeg", "png", "webp")
_LABELS = ("cls", "json")
_GZIP = b"\x1f\x8b"


@dataclass(frozen=True)
class Entry:
    """An undecoded sample of a shard.

    Attributes:
        where: Its key and its shard.
        image: The bytes of its image file.
        label: Its class.
    """

    where: str
    image: bytes
    label: int


def read_entries(shards: Sequence[Path]) -> Iterator[Entry]:
    """Iterate over the samples of shards in order.

    The files are opened here: webdataset never sees a name, so that its URLs, pipes, caches and environment variables
    have no effect. Members other than images and labels are not read.

    Raises:
        DataError: A shard is damaged, or a sample has no image or no valid label.
    """
    for shard in shards:
        with _errors_of(shard), _opened(shard) as file:
            members = tar_file_iterator(file, select_files=_is_used)
            named = ({**member, "__url__": ""} for member in members)
            for sample in group_by_keys(named):
                where = f"{sample['__key__']} in {shard}"
                image = next((sample[kind] for kind in IMAGES if kind in sample), None)
                if image is None:
                    raise DataError(f"the sample {where} has no image; expected one of {', '.join(IMAGES)}")
                yield Entry(where, image, _label(sample, where=where))


def check_archive(shard: Path) -> None:
    """Check that an archive is complete: readers of streams take a damaged header for its end.

    Raises:
        DataError: It is truncated, overwritten, or followed by something else.
    """
    with _errors_of(shard), _opened(shard) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        for _ in tar:
            tar.members = []  # type: ignore[attr-defined]  # otherwise it keeps all members in memory
        file.seek(tar.offset)
        while chunk := file.read(1 << 20):
            if chunk.strip(b"\0"):
                raise tarfile.ReadError("there is something after the end of the archive, or a damaged header")
        if file.tell() - tar.offset < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("the end of the archive is missing: it was truncated")


def _label(sample: dict[str, Any], *, where: str) -> int:
    text = sample["cls"] if "cls" in sample else sample.get("json")
    if text is None:
        raise DataError(f"the sample {where} has no class label; store it as an integer in KEY.cls")
    try:
        found = int(text) if "cls" in sample else json.loads(text)["label"]
        if isinstance(found, bool) or found != int(found):
            raise ValueError
    except (KeyError, ValueError, TypeError) as error:
        shown = repr(text[:20].decode(errors="replace"))
        raise DataError(
            f"the sample {where} has no class label but {shown}; store it as an integer in KEY.cls"
        ) from error
    if found < 0:
        raise DataError(f"the sample {where} has the negative label {found}; classes are numbered from 0")
    return int(found)


def _is_used(name: str) -> bool:
    """Whether a member is an image or a label; system files are passed over."""
    if any(is_hidden(part) for part in name.split("/") if part not in (".", "..")):
        return False
    key, suffix = base_plus_ext(name)
    return key is not None and suffix.lower() in (*IMAGES, *_LABELS)


@contextmanager
def _opened(shard: Path) -> Iterator[IO[bytes]]:
    with shard.open("rb") as plain:
        is_gzip = plain.read(2) == _GZIP
        plain.seek(0)
        if not is_gzip:
            yield plain
            return
        with gzip.open(plain) as file:
            yield cast(IO[bytes], file)


@contextmanager
def _errors_of(shard: Path) -> Iterator[None]:
    try:
        yield
    except DataError:
        raise
    except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{shard} is not a readable tar file ({one_line(error)})") from error

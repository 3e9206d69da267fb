"""Read local WebDataset shards: images and labels only, grouped as webdataset does."""

from __future__ import annotations

import gzip
import json
import lzma
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path
from typing import IO, Any, cast

from webdataset.tariterators import base_plus_ext, group_by_keys

from sparsesearch.data.file_walk import is_hidden
from sparsesearch.errors import DataError, one_line

IMAGES = ("jpg", "jpeg", "png", "webp")
_LABELS = ("cls", "json")
_GZIP = b"\x1f\x8b"
_META = re.compile(r"__[^/]*__($|/)")
"""Names of members that webdataset keeps for itself."""
_UNPACKED = 32
"""Compressed shards that a process keeps unpacked: more than are shuffled together, if they are of the usual size."""


@dataclass(frozen=True)
class Entry:
    """An undecoded sample of a shard.

    Attributes:
        where: Its key and its shard.
        image: The bytes of its image file.
        label: Its class.
        offset: Where its image file begins in the archive, uncompressed, in bytes.
    """

    where: str
    image: bytes
    label: int
    offset: int


def read_entries(shards: Sequence[Path]) -> Iterator[Entry]:
    """Iterate over the samples of shards in order.

    The files are opened here: webdataset never sees a name, so that its URLs, pipes, caches and environment variables
    have no effect. Members other than images and labels are not read.

    Raises:
        DataError: A shard is damaged, or a sample has no image or no valid label.
    """
    for shard in shards:
        with _errors_of(shard), _opened(shard) as file:
            for sample in group_by_keys(_members(file)):
                where = f"{sample['__key__']} in {shard}"
                image = next((sample[kind] for kind in IMAGES if kind in sample), None)
                if image is None:
                    raise DataError(f"the sample {where} has no image; expected one of {', '.join(IMAGES)}")
                content, offset = image
                yield Entry(where, content, _label(sample, where=where), offset)


def read_image(shard: Path, digest: str, *, offset: int, size: int) -> bytes:
    """The bytes of an image file in a shard; a compressed shard is first unpacked into a temporary file.

    Args:
        shard: The shard.
        digest: Of its contents, by which an unpacked shard is known.
        offset: Where the file begins in the archive, uncompressed, in bytes.
        size: Its size in bytes.

    Raises:
        DataError: The shard cannot be read.
    """
    with _errors_of(shard):
        if _is_compressed(shard, digest):
            return os.pread(_unpacked(shard, digest).fileno(), size, offset)
        with shard.open("rb", buffering=0) as file:
            return os.pread(file.fileno(), size, offset)


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
    text, _ = sample["cls"] if "cls" in sample else sample.get("json", (None, 0))
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


def _members(file: IO[bytes]) -> Iterator[dict[str, Any]]:
    """The images and labels of an archive, as webdataset groups them: content and offset of each."""
    with tarfile.open(fileobj=file, mode="r:") as tar:
        for member in tar:
            tar.members = []  # type: ignore[attr-defined]  # otherwise it keeps all members in memory
            if member.isreg() and not _META.match(member.name) and _is_used(member.name):
                content = cast(IO[bytes], tar.extractfile(member)).read()
                yield {"fname": member.name, "data": (content, member.offset_data), "__url__": ""}


def _is_used(name: str) -> bool:
    """Whether a member is an image or a label; system files are passed over."""
    if any(is_hidden(part) for part in name.split("/") if part not in (".", "..")):
        return False
    key, suffix = base_plus_ext(name)
    return key is not None and suffix.lower() in (*IMAGES, *_LABELS)


@cache
def _is_compressed(shard: Path, _: str) -> bool:
    with shard.open("rb") as file:
        return file.read(2) == _GZIP


@lru_cache(_UNPACKED)
def _unpacked(shard: Path, _: str) -> IO[bytes]:
    file = tempfile.TemporaryFile()  # noqa: SIM115  # open as long as it is remembered
    with gzip.open(shard) as packed:
        shutil.copyfileobj(packed, file)
    file.flush()
    return file


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

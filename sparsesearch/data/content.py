"""Data is known by its contents: digests of files, computed on all cores and remembered."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import PIL
from numpy.typing import NDArray

from sparsesearch.data.content_cache import ContentCache
from sparsesearch.data.file_walk import FoundFile, file_key
from sparsesearch.errors import DataError
from sparsesearch.settings import Settings
from sparsesearch.study.progress import Progress, Silent

FINGERPRINT_VERSION = "2"
"""Version 1 was made of names and sizes."""
_DIGEST_BYTES = 16
_STORED_AT_ONCE = 8192
_PER_TASK = 32
_T = TypeVar("_T")
_R = TypeVar("_R")
Check = Callable[[int], object]
Files = Callable[[Sequence[int]], list[FoundFile]]


class Contents:
    """Computes digests of files, and remembers them by path, size, times and inode.

    Args:
        cache: Folder of what is remembered; None for that of the environment.
        progress: Shows bars, and a line if nothing can be remembered.
    """

    def __init__(self, cache: Path | None = None, *, progress: Progress | None = None) -> None:
        self.cache = ContentCache(cache or Settings.from_environment().cache)
        self.progress = progress or Silent()
        self._is_reported = False

    def digests(self, files: Sequence[FoundFile]) -> list[str]:
        """The digest of the content of each file, in order; unchanged files are not read again.

        Raises:
            DataError: A file cannot be read, or changes while it is read.
        """
        found = self.digest_rows(len(files), lambda indices: [files[index] for index in indices])
        return _hex(found)

    def digest_rows(self, count: int, files: Files) -> NDArray[np.uint8]:
        """Same as `digests`, in an array `count x 16`, for so many files that they are made some at a time.

        Args:
            count: Number of files.
            files: Returns the files of some indices.

        Raises:
            DataError: A file cannot be read, or changes while it is read.
        """
        found = np.zeros((count, _DIGEST_BYTES), dtype=np.uint8)
        missing: list[int] = []
        for indices in _parts(range(count), _STORED_AT_ONCE):
            part = files(indices)
            stored = self.cache.files([file.path for file in part])
            for index, file in zip(indices, part, strict=True):
                row = stored.get(file.path)
                if row is not None and row[0] == file.key:
                    found[index] = np.frombuffer(bytes.fromhex(row[1]), dtype=np.uint8)
                else:
                    missing.append(index)
        if missing:
            with self.progress.bar(f"hashing {len(missing):,} files of the data", len(missing)) as bar:
                for indices in _parts(missing, _STORED_AT_ONCE):
                    part = files(indices)
                    new = on_all_cores(_digest, part, each=bar.advance)
                    self.cache.keep_files(part, new)
                    found[indices] = np.frombuffer(bytes.fromhex("".join(new)), dtype=np.uint8).reshape(
                        -1, _DIGEST_BYTES
                    )
            self.report_problem()
        return found

    def broken(self, digests: NDArray[np.uint8], files: Files, *, check: Check) -> list[int]:
        """Indices of the files that cannot be decoded; each content is decoded once by each version of Pillow.

        Args:
            digests: Of all files, `n x 16`.
            files: Returns the files of some indices.
            check: Raises DataError for a broken file.
        """
        unknown: list[int] = []
        for indices in _parts(range(len(digests)), _STORED_AT_ONCE):
            part = files(indices)
            stored = self.cache.files([file.path for file in part])
            for index, file in zip(indices, part, strict=True):
                row = stored.get(file.path)
                if row is None or row[0] != file.key or row[2] != PIL.__version__:
                    unknown.append(index)
        found: list[int] = []
        with self.progress.bar(f"decoding {len(unknown):,} images", len(unknown)) as bar:
            for indices in _parts(unknown, _STORED_AT_ONCE):
                is_good = on_all_cores(lambda index: _passes(check, index), indices, each=bar.advance)
                good = [index for index, passed in zip(indices, is_good, strict=True) if passed]
                found += [index for index, passed in zip(indices, is_good, strict=True) if not passed]
                self.cache.keep_files(files(good), _hex(digests[good]), decoded_by=PIL.__version__)
        self.cache.keep_broken([file.path for file in files(found)], _hex(digests[found]))
        return found

    def remembered(self, name: str, find: Callable[[], _T]) -> _T:
        """Lists of numbers that follow from contents: those stored under this name, or found now and stored."""
        known = self.cache.derived(name)
        if known is None:
            found = find()
            self.cache.keep_derived(name, json.dumps(found))
            self.report_problem()
            return found
        stored: _T = json.loads(known)
        return stored

    def report_problem(self) -> None:
        """Show why nothing can be remembered, once."""
        if self.cache.problem is not None and not self._is_reported:
            self.progress.line(self.cache.problem)
            self._is_reported = True


def content_digest(path: str) -> str:
    """The digest of a file's content."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, _hash).hexdigest()


def note_broken(path: str, cache: ContentCache) -> None:
    """Remember that a file, as it is now, cannot be decoded, so that its repair is recognised later."""
    if os.path.isfile(path):
        cache.keep_broken([path], [content_digest(path)])


def on_all_cores(work: Callable[[_T], _R], items: Sequence[_T], *, each: Callable[[int], object]) -> list[_R]:
    """Apply `work` to all items on threads, in order; hashing and decoding release the interpreter's lock.

    Args:
        work: Applied to each item.
        items: The items.
        each: Told how many more are done.
    """
    found: list[_R] = []
    pool = ThreadPoolExecutor(min(32, len(os.sched_getaffinity(0)) + 2))
    try:
        for part in pool.map(lambda chunk: [work(item) for item in chunk], _parts(items, _PER_TASK)):
            found += part
            each(len(part))
    finally:
        pool.shutdown(cancel_futures=True)
    return found


def combined(*parts: object) -> str:
    """One digest of several values, in order."""
    return combined_of(parts)


def combined_of(parts: Iterable[object]) -> str:
    """Same as `combined`, for many values."""
    digest = _hash()
    for part in parts:
        text = part if isinstance(part, bytes) else str(part).encode(errors="surrogateescape")
        digest.update(len(text).to_bytes(8, "little") + text)
    return digest.hexdigest()


def task_fingerprint(data: str, preprocessing: object) -> str:
    """The fingerprint of data under a preprocessing."""
    return f"{FINGERPRINT_VERSION}-{combined(data, preprocessing)[:16]}"


def changed_data(source: str, *, study: str, stored: str, found: str) -> str:
    """Why a study does not go on with its data, in one line.

    Args:
        source: The data.
        study: Name of the study.
        stored: The fingerprint of the data that the study began with.
        found: The fingerprint of the data now.
    """
    if found.startswith(prefix := f"{FINGERPRINT_VERSION}-") and not stored.startswith(prefix):
        return (
            f"study {study!r} was created by an older version, which knew data by names and sizes: whether {source!r} "
            "is unchanged cannot be told; start a new study"
        )
    return f"the data {source!r} has changed since study {study!r} was created; restore it, or start a new study"


def _hash() -> hashlib.blake2b:
    return hashlib.blake2b(digest_size=_DIGEST_BYTES)


def _digest(file: FoundFile) -> str:
    try:
        with open(file.path, "rb") as opened:
            found = hashlib.file_digest(opened, _hash).hexdigest()
            is_same = file_key(os.fstat(opened.fileno())) == file.key
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"{file.path} cannot be read ({reason}); make it readable, or remove it") from error
    if not is_same:
        raise DataError(f"{file.path} changed while it was read; run again when the data is complete")
    return found


def _passes(check: Check, index: int) -> bool:
    try:
        check(index)
    except DataError:
        return False
    return True


def _hex(digests: NDArray[np.uint8]) -> list[str]:
    return [row.tobytes().hex() for row in digests]


def _parts(items: Sequence[_T], size: int) -> Iterator[Sequence[_T]]:
    return (items[start : start + size] for start in range(0, len(items), size))

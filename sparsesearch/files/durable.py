"""Write files so that a crash, a full disk or a second writer leaves either the old file or the whole new one."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from sparsesearch.files.leftovers import SUFFIX, remove_leftovers, temporary_name

PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
_CANNOT_SYNC_FOLDERS = (errno.EINVAL, errno.ENOTSUP)  # some network filesystems


def write_file(path: Path, content: bytes | str, *, is_private: bool = False, is_synced: bool = True) -> None:
    """Write a whole file; see `new_file`.

    Args:
        path: The file.
        content: Its content; text is written as UTF-8.
        is_private: Whether only the user may read it.
        is_synced: Whether it must survive a power failure.

    Raises:
        OSError: It cannot be written; the error names `path`.
    """
    with new_file(path, is_private=is_private, is_synced=is_synced) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def new_file(path: Path, *, is_private: bool = False, is_synced: bool = True) -> Iterator[BinaryIO]:
    """Open a file for writing that takes the place of `path` when the block ends, and is dropped if it raises.

    It is written next to `path` under a name that no other process uses, also on other hosts. Its content is on the
    disk before it is renamed, and the renaming is before this returns. Temporary files that killed processes left in
    the folder are deleted. A link keeps its name and gets a new file; a device or pipe is written directly.

    Args:
        path: The file. Its folder is created.
        is_private: Whether only the user may read the file, and folders that are created. Otherwise the modes are those
            of the file that is replaced, or what the umask allows.
        is_synced: Whether it must survive a power failure, which takes milliseconds to wait for.

    Yields:
        The file.

    Raises:
        OSError: It cannot be written; the error names `path`.
    """
    target = Path(os.path.realpath(path))
    try:
        with suppress(FileNotFoundError):
            if not stat.S_ISREG(target.stat().st_mode) and not target.is_dir():
                with target.open("wb") as file:
                    yield file
                return
        make_folder(target.parent, is_private=is_private)
        remove_leftovers(target.parent)
        temporary = target.with_name(temporary_name(target.name))
        try:
            with _create(temporary, target, is_private=is_private) as file:
                yield file
                file.flush()
                if is_synced:
                    os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with suppress(FileNotFoundError):
                temporary.unlink()
            raise
        if is_synced:
            sync_folder(target.parent)
    except OSError as error:
        if error.filename is None or str(error.filename).endswith(SUFFIX):
            error.filename, error.filename2 = str(path), None
        raise


def create_private(path: Path) -> None:
    """Create an empty file and its folder for the user alone, for a library that will fill it; one that exists is left.

    Raises:
        OSError: It cannot be created.
    """
    make_folder(path.parent, is_private=True)
    # Never one that exists: closing it would drop the locks that this process has on it, as those of SQLite.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, PRIVATE_FILE))


def make_folder(path: Path, *, is_private: bool = False) -> None:
    """Create a folder and its parents, so that they survive a power failure; what exists is left as it is.

    Args:
        path: The folder.
        is_private: Whether only the user may enter what is created.

    Raises:
        OSError: It cannot be created.
    """
    missing = []
    folder = path
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        folder.mkdir(mode=PRIVATE_FOLDER if is_private else 0o777, exist_ok=True)
        sync_folder(folder.parent)
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk; one that may not be read is left to the system."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except PermissionError:
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def _create(temporary: Path, target: Path, *, is_private: bool) -> BinaryIO:
    mode = PRIVATE_FILE if is_private else 0o666
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    if not is_private:
        with suppress(FileNotFoundError):
            os.fchmod(descriptor, stat.S_IMODE(target.stat().st_mode))
    return os.fdopen(descriptor, "wb")

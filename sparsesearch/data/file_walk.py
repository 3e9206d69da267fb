"""Find the image files below a folder in one walk, and count what is left out by its reason."""

from __future__ import annotations

import os
import stat
from collections import Counter
from dataclasses import dataclass, field

from sparsesearch.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".webp", ".bmp", ".ppm", ".pgm", ".tif", ".tiff"})
HIDDEN = "hidden or system files and folders"
BROKEN_LINKS = "links without a target"
SPECIAL = "special files"
SECOND_LINKS = "links to a folder that is read already"
OUTSIDE = "files outside of class folders"
_SYSTEM_NAMES = frozenset(
    {"__macosx", "__pycache__", "@eadir", "lost+found", "thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin"}
    | {"system volume information", "#recycle", "icon\r"}
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file as it was found: enough to know later whether it is still the same.

    Attributes:
        path: Path to open.
        name: Path relative to the folder of the walk, with `/`.
        key: Size in bytes, modification and change time in nanoseconds, inode.
    """

    path: str
    name: str
    key: tuple[int, int, int, int]


@dataclass
class LeftOut:
    """Counts what is not read, by reason.

    Attributes:
        counts: Number of files and folders for each reason, other than those of no image type.
        no_images: Number of files of no image type, by suffix.
    """

    counts: Counter[str] = field(default_factory=Counter)
    no_images: Counter[str] = field(default_factory=Counter)

    def by_reason(self) -> dict[str, int]:
        """Number of files and folders for each reason; suffixes are listed, the most frequent first."""
        found = {reason: count for reason, count in sorted(self.counts.items()) if count}
        if self.no_images:
            suffixes = [suffix for suffix, _ in self.no_images.most_common()]
            listed = ", ".join(suffixes[:5]) + (", ..." if len(suffixes) > 5 else "")
            found[f"files of no image type ({listed})"] = self.no_images.total()
        return found


def is_hidden(name: str) -> bool:
    """Whether a file or folder of this name belongs to the system: `.DS_Store`, `._a.jpg`, `__MACOSX`, `Thumbs.db`."""
    return name.startswith(".") or name.lower() in _SYSTEM_NAMES


def listed(folder: str) -> list[os.DirEntry[str]]:
    """The entries of a folder in order of their names.

    Raises:
        DataError: It cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise DataError(f"the folder {folder} cannot be read ({reason}); make it readable, or move it away") from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def image_files(folder: str, *, left_out: LeftOut) -> list[FoundFile]:
    """The image files in a folder at any depth, sorted by relative path.

    Links to folders are followed, each folder once, so that cycles of links end.

    Args:
        folder: Where to begin.
        left_out: Counts what is passed over.

    Raises:
        DataError: A folder cannot be read.
    """
    found: list[FoundFile] = []
    seen = {_identity(os.stat(folder))}
    waiting = [(folder, "")]
    while waiting:
        current, prefix = waiting.pop()
        for entry in listed(current):
            if is_hidden(entry.name):
                left_out.counts[HIDDEN] += 1
                continue
            try:
                status = entry.stat()
            except OSError:
                left_out.counts[BROKEN_LINKS] += 1
                continue
            if stat.S_ISDIR(status.st_mode):
                if (identity := _identity(status)) in seen:
                    left_out.counts[SECOND_LINKS] += 1
                else:
                    seen.add(identity)
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
            elif not stat.S_ISREG(status.st_mode):
                left_out.counts[SPECIAL] += 1
            elif (suffix := os.path.splitext(entry.name)[1].lower()) in IMAGE_SUFFIXES:
                found.append(FoundFile(entry.path, f"{prefix}{entry.name}", file_key(status)))
            else:
                left_out.no_images[suffix or "no suffix"] += 1
    return sorted(found, key=lambda file: file.name)


def file_key(status: os.stat_result) -> tuple[int, int, int, int]:
    """What changes when a file is written or replaced: size, modification and change time, inode."""
    return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino


def found_file(path: str) -> FoundFile:
    """A single file as it is now.

    Raises:
        DataError: There is no such file.
    """
    try:
        return FoundFile(path, os.path.basename(path), file_key(os.stat(path)))
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror})") from error


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino

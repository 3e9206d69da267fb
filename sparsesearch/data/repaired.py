"""Recognise data in which only broken images were repaired or removed since a study began."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from sparsesearch.data.file_walk import FoundFile
from sparsesearch.data.layouts import SplitName

_MAX_TRIES = 16


@dataclass(frozen=True, slots=True)
class FolderImage:
    """An image file, its split and its class.

    Attributes:
        split: The split whose folder it is in; `train` if there are class folders only.
        label: Its class.
        file: The file.
        digest: Digest of its content; empty before it is known.
    """

    split: SplitName
    label: int
    file: FoundFile
    digest: str = ""

    @property
    def place(self) -> tuple[int, int, str]:
        """Where it is in the order of all images."""
        return ("train", "val", "test").index(self.split), self.label, self.file.name


@dataclass(frozen=True)
class Before:
    """The data as they were when a study began.

    Attributes:
        images: All images then, with the contents of then.
        repaired: Paths of those that have been repaired.
        removed: Paths of those that are gone.
    """

    images: list[FolderImage]
    repaired: frozenset[str]
    removed: frozenset[str]

    def line(self, *, are_used: bool) -> str:
        """Say what has changed, in one line.

        Args:
            are_used: Whether repaired images are used from now on.
        """
        parts = []
        if self.repaired:
            parts.append(f"{len(self.repaired):,} repaired ({'used from now on' if are_used else 'still left out'})")
        if self.removed:
            parts.append(f"{len(self.removed):,} removed")
        return f"since the study began, of the broken images {' and '.join(parts)}; all others stay in their splits"


def as_before(
    images: Iterable[FolderImage],
    broken: Sequence[Sequence[tuple[str, str]]],
    *,
    folders: Mapping[SplitName, str],
    classes: Sequence[str],
    accepts: Callable[[Sequence[FolderImage]], bool],
) -> Before | None:
    """Put back images that were broken, the last found first, until these are the data that a study began with.

    Args:
        images: All images as they are now.
        broken: Path and digest of images that were found broken, in groups that were found together, the latest first.
        folders: Folder of each split.
        classes: Names of the class folders.
        accepts: Whether these are the data of the study.

    Returns:
        The data as they were, or None if something else has changed.
    """
    now = {image.file.path: image for image in images}
    then: dict[str, FolderImage] = {}
    for group in broken[:_MAX_TRIES]:
        for path, digest in group:
            found = now.get(path) or _removed(path, folders=folders, classes=classes)
            if found is not None and found.digest != digest:
                then[path] = replace(found, digest=digest)
        made = sorted((now | then).values(), key=lambda image: image.place)
        if then and accepts(made):
            repaired = frozenset(path for path in then if path in now)
            return Before(made, repaired, frozenset(then) - repaired)
    return None


def _removed(path: str, *, folders: Mapping[SplitName, str], classes: Sequence[str]) -> FolderImage | None:
    for split, folder in folders.items():
        name, slash, inside = path.removeprefix(f"{folder}/").partition("/")
        if path.startswith(f"{folder}/") and slash and name in classes:
            return FolderImage(split, classes.index(name), FoundFile(path, inside, (0, 0, 0, 0)))
    return None

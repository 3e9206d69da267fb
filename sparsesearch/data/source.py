"""Data sources as strings, such as `folder:PATH`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sparsesearch.errors import DataError
from sparsesearch.files.user_path import user_path
from sparsesearch.study.spec import DataSpec

_FORMS = (
    "use digits, digits:hard, digits:four, folder:PATH, torch/NAME:PATH (such as torch/cifar10:PATH), "
    "hfds/OWNER/NAME, hfds:PATH or wds:PATH"
)

TORCH_FOLDERS = ("folder", "image_folder")
"""Names of torchvision's image folders, which are read like `folder:PATH`."""
Kind = Literal["digits", "folder", "torch", "hfds", "wds"]


@dataclass(frozen=True)
class Source:
    """A data source given by name, by path, or both.

    Attributes:
        kind: Reader of the data.
        name: Name of the data set, or empty; `hard` or `four` for another task of the digits.
        path: Path of the data, or None.
    """

    kind: Kind
    name: str = ""
    path: Path | None = None

    def __str__(self) -> str:
        if self.kind == "digits":
            return "digits" if self.variant == "plain" else f"digits:{self.variant}"
        name = f"/{self.name}" if self.name else ""
        path = f":{self.path}" if self.path is not None else ""
        return f"{self.kind}{name}{path}"

    @property
    def variant(self) -> Literal["plain", "hard", "four"]:
        """Variant of the bundled task."""
        match self.name:
            case "hard" | "four" as variant:
                return variant
        return "plain"


def parse_source(text: str) -> Source:
    """Parse one of the forms of docs/data.md, such as `digits`, `digits:hard`, `folder:PATH` or `torch/NAME:PATH`.

    Paths become absolute; they need not exist.

    Raises:
        DataError: The text has none of these forms.
    """
    head, colon, rest = text.strip().partition(":")
    kind, slash, name = head.partition("/")
    path = user_path(rest, error=DataError) if rest else None
    match kind:
        case "digits" if not slash and not colon:
            return Source("digits")
        case "digits" if not slash and rest in ("hard", "four"):
            return Source("digits", name=rest)
        case "folder" if not slash and path is not None:
            return Source("folder", path=path)
        case "torch" if name and path is not None:
            return Source("torch", name=name.lower(), path=path)
        case "hfds" if name and not colon:
            return Source("hfds", name=name)
        case "hfds" if not slash and path is not None:
            return Source("hfds", path=path)
        case "wds" if not slash and path is not None:
            return Source("wds", path=path)
        case "wds" if name and not colon:
            return Source("wds", path=user_path(name, error=DataError))
    if text.strip() and user_path(text.strip(), error=DataError).is_dir():
        raise DataError(f"invalid data source {text!r}; did you mean folder:{text}?")
    raise DataError(f"invalid data source {text!r}; {_FORMS}")


def source_of(data: DataSpec) -> Source:
    """The source of a study's data.

    Raises:
        DataError: It has none of the forms, or its classes are numbered already and an order of class folders is given.
    """
    source = parse_source(data.source)
    has_folders = source.kind == "folder" or (source.kind == "torch" and source.name in TORCH_FOLDERS)
    if data.class_order != "natural" and not has_folders:
        raise DataError(
            f"{source} numbers its classes itself, and class_order (--class-order) is for class folders; leave it out"
        )
    return source


def absolute_source(text: str) -> str:
    """The source with an absolute path.

    Raises:
        DataError: As in `parse_source`.
    """
    return str(parse_source(text))

"""How a person names data, and what that means."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from sparsesearch.errors import DataError

_FORMS = (
    "write digits, digits:hard, folder:PATH, torch/NAME:PATH (such as torch/cifar10:PATH), hfds/OWNER/NAME, hfds:PATH "
    "or wds:PATH"
)

Kind = Literal["digits", "folder", "torch", "hfds", "wds"]


@dataclass(frozen=True)
class Source:
    """Data by name, by place, or both.

    Attributes:
        kind: Who reads it.
        name: Its name where it has one, else empty; `hard` for the harder digits.
        path: Where it lies, or None.
    """

    kind: Kind
    name: str = ""
    path: Path | None = None

    def __str__(self) -> str:
        if self.kind == "digits":
            return "digits:hard" if self.variant == "hard" else "digits"
        name = f"/{self.name}" if self.name else ""
        path = f":{self.path}" if self.path is not None else ""
        return f"{self.kind}{name}{path}"

    @property
    def variant(self) -> Literal["plain", "hard"]:
        """Which of the bundled tasks."""
        return "hard" if self.name == "hard" else "plain"


def parse_source(text: str) -> Source:
    """Read one of the forms of docs/data.md, such as `digits`, `digits:hard`, `folder:PATH` or `torch/NAME:PATH`.

    Paths become absolute; whether they exist is not looked at.

    Raises:
        DataError: Not of one of these forms.
    """
    head, colon, rest = text.strip().partition(":")
    kind, slash, name = head.partition("/")
    path = Path(rest).expanduser().absolute() if rest else None
    match kind:
        case "digits" if not slash and not colon:
            return Source("digits")
        case "digits" if not slash and rest == "hard":
            return Source("digits", name="hard")
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
            return Source("wds", path=Path(name).expanduser().absolute())
    if text.strip() and Path(text).expanduser().is_dir():
        raise DataError(f"cannot read the data source {text!r}; did you mean folder:{text}?")
    raise DataError(f"cannot read the data source {text!r}; {_FORMS}")


def absolute_source(text: str) -> str:
    """The source with its path made absolute.

    Raises:
        DataError: As `parse_source`.
    """
    return str(parse_source(text))

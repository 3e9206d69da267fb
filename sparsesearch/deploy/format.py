"""What a format is, and the formats that there are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, cast

from torch import Tensor

from sparsesearch.backbones.discovery import modules_of
from sparsesearch.deploy import formats
from sparsesearch.deploy.exported import Exported
from sparsesearch.errors import SpecError

Run = Callable[[Tensor], tuple[Tensor, ...]]
"""Runs a file on float32 images `B x in_chans x H x W`: the logits, and what else it gives."""


class Format(Protocol):
    """A format, which is a module.

    Attributes:
        NAME: Its name on the command line.
        FILE: Name of the file, or of the folder.
        DESCRIPTION: What it is, in a few words.
        RUNS_ALONE: Whether it is run by something else than the model in torch, so that its accuracy may differ.
    """

    NAME: str
    FILE: str
    DESCRIPTION: str
    RUNS_ALONE: bool

    def check(self) -> None:
        """Check that what it needs is installed.

        Raises:
            MissingExtraError: It is not.
        """

    def write(self, exported: Exported, path: Path, *, with_kept: bool = False) -> None:
        """Write a model.

        Args:
            exported: The model.
            path: The file, or the folder.
            with_kept: Whether its outputs are also the positions that each step keeps, for a check; only for formats
                that run alone.
        """

    def open(self, path: Path) -> Run:
        """Load what was written."""


def all_formats() -> dict[str, Format]:
    """The formats by name."""
    found = [cast(Format, module) for module in modules_of(formats)]
    return {each.NAME: each for each in found}


def formats_of(names: str) -> list[Format]:
    """The formats of a list of names, with what they need installed.

    Args:
        names: Names with commas between them.

    Raises:
        SpecError: There is no such format.
        MissingExtraError: A format needs what is not installed.
    """
    known = all_formats()
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        what = f"unknown format {unknown[0]!r}" if unknown else "no format given"
        raise SpecError(f"{what}; choose from {', '.join(known)}")
    for name in chosen:
        known[name].check()
    return [known[name] for name in chosen]

"""Names of backbones: resolution with the recorded ones, and the errors for unknown ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from sparsesearch.catalog.records import catalog
from sparsesearch.errors import BackboneError


def recorded_name(name: str) -> str | None:
    """The full name of a recorded backbone, given an alias or a model name with or without its pretrained tag.

    Returns:
        The name; None if the backbone is not recorded.
    """
    found = catalog()
    if name in found.aliases:
        return found.aliases[name]
    is_plain = "/" not in name and ":" not in name
    return name if is_plain and name.partition(".")[0] in found.architectures else None


def unrecorded_backbone(name: str) -> BackboneError:
    """The error for a name that is not recorded, if all models of timm are."""
    found = catalog()
    if "/" not in name and ":" not in name and name.partition(".")[0] in found.others:
        return foreign_backbone(name, supported=found.supported)
    known = [*found.aliases, *found.models_of_timm]
    return unknown_backbone(name, known=known, aliases=found.aliases)


def unknown_backbone(name: str, *, known: Sequence[str], aliases: Iterable[str]) -> BackboneError:
    """The error for an unknown name, with the nearest known ones."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"try one of {', '.join(aliases)}"
    return BackboneError(f"unknown backbone {name!r}; {hint}")


def foreign_backbone(name: str, *, supported: str) -> BackboneError:
    """The error for a model of timm whose family is not supported."""
    return BackboneError(f"the backbone {name} belongs to a family that cannot be sparsified; {supported}")

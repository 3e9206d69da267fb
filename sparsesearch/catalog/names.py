"""Names of backbones: resolution with the recorded ones, and the errors for unknown ones."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

from sparsesearch.catalog.records import catalog
from sparsesearch.errors import BackboneError

_HUB = ("hf-hub:timm/", "hf_hub:timm/", "timm/")
_LONGEST = 100  # what is longer is no misspelled name, and comparing it takes long


def timm_name(name: str) -> str | None:
    """The name in timm of `timm/NAME` or `hf-hub:timm/NAME`; None for a name that does not say that it is timm's."""
    return next((name.removeprefix(prefix) for prefix in _HUB if name.startswith(prefix)), None)


def recorded_name(name: str) -> str | None:
    """The full name of a recorded backbone.

    Args:
        name: An alias, or the name of a model, with or without its pretrained tag; `timm/NAME` and `hf-hub:timm/NAME`
            are models of timm even if there is a bundled backbone of the same name.

    Returns:
        The name; None if the backbone is not recorded.
    """
    found, plain = catalog(), timm_name(name)
    if plain is None and name in found.aliases:
        return found.aliases[name]
    architecture, _, tag = (name if plain is None else plain).partition(".")
    if plain is None:
        architecture = found.aliases.get(architecture, architecture)
    if architecture not in found.architectures or (plain is not None and architecture not in found.models_of_timm):
        return None
    if not tag:
        return found.shadowed.get(architecture, architecture) if plain is not None else architecture
    if found.is_refused(architecture):
        return architecture
    return f"{architecture}.{tag}" if tag in found.tags(architecture) else None


def unrecorded_backbone(name: str) -> BackboneError:
    """The error for a name that is not recorded, if all models of timm are."""
    found = catalog()
    plain = timm_name(name) or name
    architecture, _, tag = plain.partition(".")
    architecture = found.aliases.get(architecture, architecture)
    if "/" not in plain and ":" not in plain and architecture in found.others:
        return foreign_backbone(plain, supported=found.supported)
    if tag and architecture in found.architectures:
        return unknown_tag(architecture, tag, tags=found.tags(architecture))
    known = [*found.aliases, *found.models_of_timm]
    return unknown_backbone(name, known=known, aliases=found.aliases)


def which_is_meant(name: str) -> str | None:
    """A line that says which of two backbones a name stands for; None if only one has it."""
    found = catalog()
    if name not in found.shadowed:
        return None
    return f"{name} is the bundled backbone of this name; timm's own is timm/{name}"


def unknown_tag(architecture: str, tag: str, *, tags: Sequence[str]) -> BackboneError:
    """The error for a pretrained tag that does not exist, with those that do."""
    if not tags:
        return BackboneError(f"{architecture} has no pretrained tag {tag!r}; it has none, give {architecture}")
    return BackboneError(f"{architecture} has no pretrained tag {tag!r}; choose from {', '.join(tags)}")


def unknown_backbone(name: str, *, known: Sequence[str], aliases: Iterable[str]) -> BackboneError:
    """The error for an unknown name, with the nearest known ones."""
    plain = timm_name(name) or name
    near = difflib.get_close_matches(plain[:_LONGEST], known, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"try one of {', '.join(aliases)}"
    return BackboneError(f"unknown backbone {name!r}; {hint}")


def foreign_backbone(name: str, *, supported: str) -> BackboneError:
    """The error for a model of timm whose family is not supported."""
    return BackboneError(f"the backbone {name} belongs to a family that cannot be sparsified; {supported}")

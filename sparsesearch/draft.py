"""From what a person wrote - a document, flags, or both - to a whole study document."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sparsesearch.backbones.registry import resolve_name
from sparsesearch.errors import SpecError, one_line
from sparsesearch.evaluate.progress import Progress
from sparsesearch.evaluate.recipes import default_fidelity
from sparsesearch.evaluate.weights import resolve_weights
from sparsesearch.space.definition import load_space, space_for_backbone
from sparsesearch.spec import StudySpec


def complete(document: Mapping[str, Any], *, progress: Progress) -> StudySpec:
    """Fill in what was left out: the space of the backbone, and training phases that suit its weights.

    Args:
        document: Part of a `StudySpec` as plain data. `space` may be the name or path of a space; `fidelity` may hold
            single keys, the rest comes from the default recipe.
        progress: Gets a line if the weights are not what was asked for.

    Raises:
        SpecError: An unknown key (named), a value out of range, or no backbone or budget.
        SpaceError: The space cannot be read.
        BackboneError: Unknown backbone.
    """
    if document.get("backbone") is None:
        raise SpecError("no backbone given; say --backbone deit_s (or deit_pico for the demo)")
    if document.get("budget") is None:
        raise SpecError("no budget given; say --budget-gflops 3.0, or --budget 35% of dense, or 20%:45% for a front")
    filled = dict(document)
    backbone = resolve_name(str(filled["backbone"]))
    weights, line = resolve_weights(str(filled.get("weights", "pretrained")), backbone=backbone)
    if line is not None:
        progress.line(line)
    filled["weights"] = weights
    space = filled.get("space")
    if not isinstance(space, Mapping):
        filled["space"] = (space_for_backbone(backbone) if space is None else load_space(str(space))).model_dump()
    wishes = filled.get("fidelity") or {}
    if not isinstance(wishes, Mapping):
        raise SpecError(f"fidelity must be a mapping, got {wishes!r}")
    filled["fidelity"] = _merged(default_fidelity(backbone, weights=weights).model_dump(), wishes)
    try:
        return StudySpec.model_validate(filled)
    except ValidationError as error:
        raise SpecError(f"the study document is not valid: {one_line(error)}") from error


def _merged(base: dict[str, Any], wishes: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in wishes.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged


def commented_yaml(value: BaseModel, *, skip: frozenset[str] = frozenset()) -> str:
    """A document as YAML in which every key has its description above it.

    The descriptions are the `Attributes:` of the classes' docstrings.

    Args:
        value: The document.
        skip: Top-level keys to leave out.
    """
    return "\n".join(_lines(value, indent=0, skip=skip)) + "\n"


def _lines(value: BaseModel, *, indent: int, skip: frozenset[str] = frozenset()) -> list[str]:
    pad = "  " * indent
    descriptions = _descriptions(type(value))
    lines: list[str] = []
    for key in type(value).model_fields:
        if key in skip:
            continue
        entry = getattr(value, key)
        lines.extend(f"{pad}# {line}" for line in descriptions.get(key, []))
        if isinstance(entry, BaseModel):
            lines.append(f"{pad}{key}:")
            lines.extend(_lines(entry, indent=indent + 1))
        else:
            plain = value.model_dump(mode="json", include={key})[key]
            lines.append(f"{pad}{key}: {_flow(plain)}")
    return lines


def _flow(plain: object) -> str:
    text: str = yaml.safe_dump(plain, default_flow_style=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n...\n").strip()


def _descriptions(kind: type[BaseModel]) -> dict[str, list[str]]:
    """Field name to the lines of its description, from the class docstring."""
    found: dict[str, list[str]] = {}
    _, _, attributes = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    current = ""
    for line in textwrap.dedent(attributes).splitlines():
        if line and not line.startswith(" "):
            current, _, text = line.partition(": ")
            found[current] = [text]
        elif line.strip() and current:
            found[current].append(line.strip())
    return found

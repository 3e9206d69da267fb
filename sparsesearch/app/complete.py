"""Complete the document that a user gave, from a file, flags or both, to a full study document."""

from __future__ import annotations

import difflib
import inspect
import re
import textwrap
from collections.abc import Mapping
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError

from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.data.source import absolute_source
from sparsesearch.errors import SpecError
from sparsesearch.space.definition import load_space, space_for_backbone
from sparsesearch.study.progress import Progress
from sparsesearch.study.spec import Budget, StudySpec, notes_on_renamed
from sparsesearch.study.spec.renamed import renamed
from sparsesearch.training.published_weights import requested_weights, resolve_weights
from sparsesearch.training.recipes import default_fidelity, for_a_front

_HINTS = {
    "budget": "use 35%, 20%:45%, or the keys unit, low and high",
    "device": "choose auto, cpu, cuda or cuda:0",
    "name": "use at most 80 letters, digits, '.', '_' and '-', starting with a letter or digit",
}


def complete(document: Mapping[str, Any], *, progress: Progress, ask_hub: bool = True) -> StudySpec:
    """Fill in missing keys: the space of the backbone, and training phases that suit its weights.

    Paths of data and weights become absolute, so that the study can be resumed from another folder.

    Args:
        document: Part of a `StudySpec` as plain data. `space` may be the name or path of a space; `fidelity` may have
            only some of its keys, the rest come from the default recipe; `budget` may be `35%` and `data` its source.
        progress: Receives a message if the weights differ from the requested ones.
        ask_hub: Whether to check that published weights are available; if not, they are assumed to be.

    Raises:
        SpecError: An unknown key (named), a value out of range, or no backbone or budget.
        SpaceError: The space cannot be read.
        BackboneError: Unknown backbone.
    """
    if document.get("backbone") is None:
        raise SpecError("no backbone given; use --backbone deit_s (or deit_pico for the demo)")
    if document.get("budget") is None:
        raise SpecError(
            "no budget given; use --budget-gflops 3.0, --budget 35% (of the dense cost; 20%:45% for a front), or "
            "--budget-ms 2.5"
        )
    filled = dict(document)
    backbone = resolve_name(str(filled["backbone"]))
    wanted = str(filled.get("weights") or "pretrained")
    weights, line = requested_weights(wanted, backbone=backbone), None
    if ask_hub:
        weights, line = resolve_weights(wanted, backbone=backbone)
    if line is not None:
        progress.line(line)
    filled["weights"] = weights
    if isinstance(filled["budget"], str) and "%" in filled["budget"]:
        filled["budget"] = Budget.parse(filled["budget"], "fraction").model_dump()
    data = filled.get("data")
    if isinstance(data, str):
        filled["data"] = data = {"source": data}
    if isinstance(data, Mapping) and isinstance(data.get("source"), str):
        filled["data"] = {**data, "source": absolute_source(data["source"])}
    space = filled.get("space")
    if not isinstance(space, Mapping):
        filled["space"] = (space_for_backbone(backbone) if space is None else load_space(str(space))).model_dump()
    for note in notes_on_renamed(filled):
        progress.line(note)
    try:
        requested = renamed("fidelity", filled.get("fidelity") or {})
    except ValueError as error:
        raise SpecError(f"invalid study document: fidelity: {error}") from error
    if not isinstance(requested, Mapping):
        raise SpecError(f"invalid study document: fidelity must be a mapping, got {requested!r}")
    recipe = default_fidelity(backbone, weights=weights)
    budget = filled["budget"]
    is_range = isinstance(budget, Mapping) and budget.get("low") is not None
    if is_range and requested.get("strategy", recipe.strategy) != "finetune":
        recipe = for_a_front(recipe)
    filled["fidelity"] = _merged(recipe.model_dump(), requested)
    try:
        return StudySpec.model_validate(filled)
    except ValidationError as error:
        raise SpecError(f"invalid study document: {_describe(error)}") from error


def _describe(error: ValidationError) -> str:
    """Describe each invalid key in one line."""
    lines = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        match item["type"]:
            case "extra_forbidden":
                text = f"unknown key{_nearest(item['loc'])}"
            case kind if where in _HINTS and kind != "value_error":
                text = f"invalid value {_short(item['input'])}; {_HINTS[where]}"
            case _:
                text = str(item["msg"]).removeprefix("Value error, ") + f", got {_short(item['input'])}"
        lines.append(f"{where}: {text}")
    return "; ".join(lines)


def _nearest(location: tuple[int | str, ...]) -> str:
    """Return `; did you mean KEY?` for an unknown key, if a known key has a similar name."""
    kind: Any = StudySpec
    for part in location[:-1]:
        field = kind.model_fields.get(str(part)) if inspect.isclass(kind) and issubclass(kind, BaseModel) else None
        kind = None if field is None else field.annotation
    known = list(kind.model_fields) if inspect.isclass(kind) and issubclass(kind, BaseModel) else []
    near = difflib.get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _merged(base: dict[str, Any], requested: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in requested.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged


def commented_yaml(value: BaseModel, *, skip: frozenset[str] = frozenset()) -> str:
    """Format a document as YAML in which every key is preceded by its description.

    The descriptions are taken from the `Attributes:` sections of the class docstrings.

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
    """Map field names to the lines of their descriptions in the class docstring, with YAML's `null` for None."""
    found: dict[str, list[str]] = {}
    _, _, attributes = (inspect.getdoc(kind) or "").partition("Attributes:\n")
    current = ""
    for line in textwrap.dedent(attributes).splitlines():
        if line and not line.startswith(" "):
            current, _, text = line.partition(": ")
            found[current] = [text]
        elif line.strip() and current:
            found[current].append(line.strip())
    return {key: [re.sub(r"\bNone\b", "null", line) for line in lines] for key, lines in found.items()}

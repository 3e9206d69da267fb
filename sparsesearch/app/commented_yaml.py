"""Study documents as YAML with an explanation of every key."""

from __future__ import annotations

import inspect
import re
import textwrap

import yaml
from pydantic import BaseModel


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

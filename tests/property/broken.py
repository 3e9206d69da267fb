"""Strategies for broken files: what was written, with bytes or values changed as disks, editors and programs do."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import strategies as st

ODD: list[Any] = [
    None,
    True,
    False,
    0,
    -1,
    1,
    2**31,
    2**63 - 1,
    -(2**63),
    0.5,
    -0.5,
    1e308,
    5e-324,
    float("nan"),
    float("inf"),
    "",
    " ",
    "auto",
    "deit_s",
    "../../etc/passwd",
    "~/x",
    "0x10",
    "1e9",
    "\x00",
    "\x1b[31m",
    "a\nb",
    "\N{SNOWMAN}" * 40,
    "x" * 5000,
    "%s%n{}",
    "postgresql://me:secret@host/x",
    [],
    [[]],
    [None],
    {},
    {"": None},
    {"a": {"b": {"c": []}}},
    list(range(300)),
]
"""Values that are often forgotten."""

NAMES = ["", "x", "__class__", "seed", "schema_version", "steps", "space", "low", "high", "budget", "\u2028", "a" * 300]


@dataclass(frozen=True)
class Edit:
    """A change at a place between 0 and 1 of a document or of its bytes."""

    how: str
    at: float
    value: Any


def edits_of_bytes() -> st.SearchStrategy[list[Edit]]:
    """A few changes of bytes."""
    how = st.sampled_from(["flip", "cut", "insert", "remove", "repeat", "overwrite"])
    return st.lists(
        st.builds(Edit, how, st.floats(0.0, 1.0), st.binary(min_size=1, max_size=12)), min_size=1, max_size=3
    )


def edits_of_values() -> st.SearchStrategy[list[Edit]]:
    """A few changes of values and keys."""
    value = st.one_of(st.sampled_from(ODD), st.integers(), st.floats(), st.text(max_size=8))
    how = st.sampled_from(["replace", "remove", "add", "rename", "repeat", "swap"])
    return st.lists(st.builds(Edit, how, st.floats(0.0, 1.0), value), min_size=1, max_size=4)


def changed_bytes(blob: bytes, edits: list[Edit]) -> bytes:
    """Bytes after some changes."""
    for edit in edits:
        place = min(int(edit.at * len(blob)), max(0, len(blob) - 1))
        end = place + len(edit.value)
        match edit.how:
            case "flip":
                mixed = bytes(a ^ b for a, b in zip(blob[place:end], edit.value, strict=False))
                blob = blob[:place] + mixed + blob[place + len(mixed) :]
            case "cut":
                blob = blob[:place]
            case "insert":
                blob = blob[:place] + edit.value + blob[place:]
            case "remove":
                blob = blob[:place] + blob[end:]
            case "repeat":
                blob = blob[:end] + blob[place:]
            case _:
                blob = blob[:place] + edit.value + blob[end:]
    return blob


def changed_values(document: Any, edits: list[Edit]) -> Any:
    """A document after some changes of values and keys."""
    document = copy.deepcopy(document)
    for edit in edits:
        value, places = copy.deepcopy(edit.value), list(_places(document))
        if not places:
            return value
        holder, key = places[min(int(edit.at * len(places)), len(places) - 1)]
        name = NAMES[int(edit.at * 997) % len(NAMES)]
        match edit.how:
            case "replace":
                holder[key] = value
            case "remove":
                del holder[key]
            case "add" if isinstance(holder, dict):
                holder[name] = value
            case "rename" if isinstance(holder, dict):
                holder[name] = holder.pop(key)
            case "swap":
                other, there = places[int(edit.at * 7919) % len(places)]
                holder[key], other[there] = copy.deepcopy(other[there]), copy.deepcopy(holder[key])
            case _ if isinstance(holder, list):
                holder.append(copy.deepcopy(holder[key]))
            case _:
                holder[key] = [copy.deepcopy(holder[key])] * 3
    return document


def dumped(document: Any, *, as_json: bool) -> bytes:
    """A document as a file."""
    if as_json:
        return json.dumps(document, default=str).encode("utf-8", "surrogatepass")
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True).encode("utf-8", "surrogatepass")


def _places(document: Any) -> Iterator[tuple[Any, Any]]:
    """Every value in a document: what holds it, and its key or index there."""
    waiting = [document]
    while waiting:
        holder = waiting.pop(0)
        if isinstance(holder, dict | list):
            for key in list(holder) if isinstance(holder, dict) else range(len(holder)):
                yield holder, key
                waiting.append(holder[key])

"""What a person asks for: a study document, the flags that override it, and a name for the study."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from sparsesearch.errors import SpecError, StudyExistsError
from sparsesearch.study.spec import Budget, read_document
from sparsesearch.study.spec.renamed import renamed


def read_request(path: Path | None) -> dict[str, Any]:
    """Read a study document as plain data; no path is an empty document.

    Raises:
        SpecError: The file is missing, or not a study document.
    """
    if path is None:
        return {}
    read = read_document(path)
    if not isinstance(read, dict):
        raise SpecError(f"{path} is not a study document; create one with: sparsesearch init")
    return read


def overridden(document: Mapping[str, Any], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with its keys overridden by flags; flags that are None were not given."""
    merged = dict(document)
    for key, value in flags.items():
        if isinstance(value, dict) and key != "budget":
            inner = merged.get(key)
            given = {k: v for k, v in value.items() if v is not None}
            if given:
                merged[key] = {**(inner if isinstance(inner, dict) else {}), **given}
        elif value is not None:
            merged[key] = value
    return merged


def with_name(document: Mapping[str, Any], *, taken: Collection[str]) -> dict[str, Any]:
    """Return a document with a name, derived from backbone and budget if it has none.

    Args:
        document: A study document as plain data.
        taken: Names of the studies in the database.

    Raises:
        StudyExistsError: Its name is taken.
    """
    name = document.get("name")
    if name is None:
        return {**document, "name": _free_name(document, taken)}
    if name in taken:
        raise StudyExistsError(
            f"study {name!r} already exists; resume it with `sparsesearch resume {name}`, delete it with "
            f"`sparsesearch delete {name}`, or choose another name with --study"
        )
    return dict(document)


def as_name(text: str) -> str:
    """Turn a text into a valid study name."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:60] or "study"


def _free_name(document: Mapping[str, Any], taken: Collection[str]) -> str:
    budget = document.get("budget")
    if isinstance(budget, str):
        budget = Budget.parse(budget, "fraction").model_dump()
    budget = renamed("budget", budget)
    text = ""
    if isinstance(budget, dict) and isinstance(budget.get("high"), int | float):
        unit = str(budget.get("unit", "fraction"))
        ends = [end for end in (budget.get("low"), budget["high"]) if isinstance(end, int | float)]
        text = "-".join(f"{end * 100:g}p" if unit == "fraction" else f"{end:g}{unit[:1]}" for end in ends)
        text += "s" * (unit == "ms")
    base = as_name(f"{document.get('backbone', 'study')}-{text}")
    number = 1
    while (name := base if number == 1 else f"{base}-{number}") in taken:
        number += 1
    return name

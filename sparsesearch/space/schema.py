"""The JSON schema of space files for editors; `python -m sparsesearch.space.schema` prints it."""

from __future__ import annotations

import json
import re
import sys
from typing import Any

from pydantic import BaseModel

from sparsesearch.schedule import methods
from sparsesearch.space import shape, stage_locations
from sparsesearch.space.definition import SearchSpace


def space_schema() -> dict[str, Any]:
    """The schema of a space file, with the documentation of each key."""
    schema = SearchSpace.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "sparsesearch search space"
    _describe(schema, SearchSpace)
    for name, definition in schema["$defs"].items():
        model = next(vars(module)[name] for module in (methods, shape, stage_locations) if name in vars(module))
        _describe(definition, model)
    return schema


def schema_text() -> str:
    """The schema as text, as stored next to the spaces."""
    return json.dumps(space_schema(), indent=2) + "\n"


def _describe(definition: dict[str, Any], model: type[BaseModel]) -> None:
    """Copy the docstring of a model into its schema: the first line, and the description of each attribute."""
    text = model.__doc__ or ""
    definition["description"] = text.split("\n\n", 1)[0].strip()
    for name, words in _attributes(text).items():
        if name in definition.get("properties", {}):
            definition["properties"][name]["description"] = words


def _attributes(text: str) -> dict[str, str]:
    """The entries of a docstring's `Attributes:` section."""
    _, _, section = text.partition("Attributes:\n")
    section = section.split("\n\n", 1)[0]
    found: dict[str, str] = {}
    name = ""
    for line in section.splitlines():
        entry = re.fullmatch(r" {8}(\w+): (.*)", line)
        if entry is not None:
            name = entry[1]
            found[name] = entry[2]
        elif name and line.strip():
            found[name] += " " + line.strip()
    return found


if __name__ == "__main__":
    sys.stdout.write(schema_text())

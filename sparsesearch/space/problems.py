"""All problems of a space file, one per line."""

from __future__ import annotations

from pydantic import ValidationError

from sparsesearch.errors import SpaceError
from sparsesearch.files.documents import read_yaml
from sparsesearch.space.definition import SearchSpace, space_path


def problems_of(name_or_path: str) -> list[str]:
    """The problems of a space file, one line each; empty if it is valid.

    Args:
        name_or_path: A path to a YAML file, or the name of a bundled space.
    """
    try:
        path = space_path(name_or_path)
        document = read_yaml(path, error=SpaceError)
    except SpaceError as error:
        return [str(error)]
    try:
        SearchSpace.model_validate(document or {})
    except ValidationError as error:
        return [
            f"{path}: "
            + (f"{'.'.join(map(str, item['loc']))}: " if item["loc"] else "")
            + str(item["msg"]).removeprefix("Value error, ")
            for item in error.errors()
        ]
    return []

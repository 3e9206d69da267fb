"""Read study documents from files, and change their resources."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from sparsesearch.errors import SpecError, one_line
from sparsesearch.files.documents import read_yaml
from sparsesearch.study.spec.study import StudySpec


def executed_by(spec: StudySpec, *, dispatcher: str | None, resources: Mapping[str, object]) -> StudySpec:
    """The study with another dispatcher or resources, which do not change its results.

    Args:
        spec: The study as stored.
        dispatcher: The new dispatcher; None to keep it.
        resources: New values of fields of `ResourceSpec`; None to keep a value.

    Raises:
        SpecError: A value is out of range, or the study requires its dispatcher.
    """
    document = spec.model_dump()
    document["dispatcher"] = dispatcher or spec.dispatcher
    document["resources"].update({key: value for key, value in resources.items() if value is not None})
    try:
        return StudySpec.model_validate(document)
    except ValidationError as error:
        raise SpecError(f"study {spec.name!r} cannot run with these settings: {one_line(error)}") from error


def read_document(path: Path, *, allow_nan: bool = False) -> object:
    """Read a YAML or JSON document as plain data.

    Args:
        path: The file.
        allow_nan: Whether numbers may be NaN or infinite, as in a recipe's record of what was measured.

    Raises:
        SpecError: The file is missing or not readable as YAML; see `documents.read_yaml`.
    """
    return read_yaml(path, error=SpecError, allow_nan=allow_nan)

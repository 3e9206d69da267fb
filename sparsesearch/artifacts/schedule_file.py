"""A schedule from a file: the recipe of a search, or a schedule alone."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from sparsesearch.errors import ScheduleError, SpecError, one_line
from sparsesearch.schedule import Schedule
from sparsesearch.study.spec import read_document


def read_schedule(path: Path) -> Schedule:
    """The schedule of a YAML or JSON file.

    Args:
        path: A recipe that `run` or `export` wrote (its `schedule`), or a document with `steps`.

    Raises:
        SpecError: Missing, not YAML, or neither of the two.
        ScheduleError: The schedule in it is not valid.
    """
    document = read_document(path)
    found = document.get("schedule", document) if isinstance(document, dict) else None
    if not isinstance(found, dict) or "steps" not in found:
        raise SpecError(f"{path} holds no schedule; give a recipe such as best.yaml, or a document with steps")
    try:
        return Schedule.model_validate(found)
    except ValidationError as error:
        raise ScheduleError(f"the schedule in {path} is not valid: {one_line(error)}") from error

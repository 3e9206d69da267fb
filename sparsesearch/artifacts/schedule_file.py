"""Read schedules from files: recipes, or schedules alone."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from sparsesearch.errors import ScheduleError, SpecError, one_line
from sparsesearch.schedule import Schedule
from sparsesearch.study.spec import read_document


def read_schedule(path: Path) -> Schedule:
    """Read the schedule in a YAML or JSON file.

    Args:
        path: A recipe written by `run` or `export` (its `schedule`), or a document with `steps`.

    Raises:
        SpecError: The file is missing, not YAML, or neither of the two.
        ScheduleError: The schedule is invalid.
    """
    return schedule_in(read_document(path, allow_nan=True), path)


def schedule_in(document: object, path: Path) -> Schedule:
    """The schedule in a document that was read from a file.

    Raises:
        SpecError: The document contains none.
        ScheduleError: The schedule is invalid.
    """
    found = document.get("schedule", document) if isinstance(document, dict) else None
    if not isinstance(found, dict) or "steps" not in found:
        raise SpecError(f"{path} contains no schedule; give a recipe such as best.yaml, or a document with steps")
    try:
        return Schedule.model_validate(found)
    except ValidationError as error:
        raise ScheduleError(f"invalid schedule in {path}: {one_line(error)}") from error

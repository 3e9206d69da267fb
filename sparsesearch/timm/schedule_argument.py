"""Parse the `schedule` argument of sparse timm models."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from sparsesearch.artifacts.schedule_file import read_schedule
from sparsesearch.errors import ScheduleError, one_line
from sparsesearch.schedule import Schedule

_RATE = re.compile(r"(?:rho=)?(\d*\.?\d+)")


def parse_schedule(argument: object) -> Schedule | float:
    """Return a schedule, or the keep ratio of the papers' hand-crafted schedule.

    Args:
        argument: A `Schedule`; a mapping with `steps`, or a recipe with `schedule`; the path of a file with either; a
            keep ratio, as a number or as `rho=0.7`.

    Raises:
        ScheduleError: The argument is none of these.
        SpecError: The file is missing or contains no schedule.
    """
    if isinstance(argument, Schedule):
        return argument
    if isinstance(argument, Mapping):
        found = argument.get("schedule", argument)
        if not isinstance(found, Schedule) and not (isinstance(found, Mapping) and "steps" in found):
            raise ScheduleError(
                f"invalid schedule: no key 'steps', got {', '.join(map(str, found)) or 'no keys'}; give the "
                "steps, or a recipe with a schedule"
            )
        try:
            return Schedule.model_validate(found)
        except ValidationError as error:
            raise ScheduleError(f"invalid schedule: {one_line(error)}") from error
    if isinstance(argument, int | float) and not isinstance(argument, bool):
        return float(argument)
    if isinstance(argument, str):
        rate = _RATE.fullmatch(argument.strip())
        return float(rate[1]) if rate else read_schedule(Path(argument))
    if isinstance(argument, Path):
        return read_schedule(argument)
    raise ScheduleError(f'invalid schedule {argument!r}; give schedule="best.yaml", schedule="rho=0.7" or a Schedule')

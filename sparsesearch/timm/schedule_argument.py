"""What `schedule=` of a sparse timm model may be."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import ValidationError

from sparsesearch.artifacts.schedule_file import read_schedule
from sparsesearch.errors import ScheduleError, one_line
from sparsesearch.schedule import Schedule

_RATE = re.compile(r"(?:rho=)?(\d*\.?\d+)")


def parse_schedule(wanted: object) -> Schedule | float:
    """A schedule, or the rate of the hand-crafted one of the papers.

    Args:
        wanted: A `Schedule`; a mapping with `steps`, or a recipe with `schedule`; the path of a file with either; a
            rate, as a number or as `rho=0.7`.

    Raises:
        ScheduleError: It is none of these.
        SpecError: The file is missing or holds no schedule.
    """
    if isinstance(wanted, Schedule):
        return wanted
    if isinstance(wanted, Mapping):
        found = wanted.get("schedule", wanted)
        if not isinstance(found, Schedule) and not (isinstance(found, Mapping) and "steps" in found):
            raise ScheduleError(f"a schedule has steps, but only {', '.join(map(str, found)) or 'nothing'} is given")
        try:
            return Schedule.model_validate(found)
        except ValidationError as error:
            raise ScheduleError(f"the schedule is not valid: {one_line(error)}") from error
    if isinstance(wanted, int | float) and not isinstance(wanted, bool):
        return float(wanted)
    if isinstance(wanted, str):
        rate = _RATE.fullmatch(wanted.strip())
        return float(rate[1]) if rate else read_schedule(Path(wanted))
    if isinstance(wanted, Path):
        return read_schedule(wanted)
    raise ScheduleError(f'{wanted!r} is no schedule; give schedule="best.yaml", schedule="rho=0.7" or a Schedule')

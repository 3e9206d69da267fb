"""A latency profile: everything that was measured of a backbone on a device, and what was learned from it. One file."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from sparsesearch.errors import ProfileError, one_line
from sparsesearch.latency.profile.design import Role
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.shape import Method
from sparsesearch.study.latency_fit import LatencyFit
from sparsesearch.study.latency_record import BUSY_RATIO, Conditions, Latency
from sparsesearch.value import Value


class Timing(Value):
    """One measured schedule, or one measured part.

    Attributes:
        role: Why it was measured; see `profile_design`.
        schedule: The schedule; dense for a part.
        num_tokens: Of a part, the patch tokens that it ran over.
        group: Index of the group of calls that it took turns with; the dense model is in every one.
        latency: As the clock showed it.
        ratio: Median over rounds of its time over the dense model's in the same round.
    """

    role: Role
    schedule: Schedule
    num_tokens: int | None = None
    group: int = Field(ge=0)
    latency: Latency
    ratio: float = Field(gt=0.0)


class Profile(Value):
    """A latency profile.

    Attributes:
        geometry: The backbone that was measured.
        methods: What its schedules may do.
        stages: Where they may do it.
        conditions: Under which it was measured.
        anchors: The dense model in each group.
        timings: Everything else that was measured, as the clock showed it.
        num_planned: How many timings there would have been without a time limit.
        seconds: How long it took.
        slowness: By group, how many times as long everything took as its runs of the dense model tell; see
            `fit_profile`.
        fit: What was learned. It and `slowness` follow from all of the above.
    """

    schema_version: Literal[1] = 1
    geometry: BackboneGeometry
    methods: tuple[Method, ...]
    stages: tuple[int, ...]
    conditions: Conditions
    anchors: tuple[Latency, ...] = Field(min_length=1)
    timings: tuple[Timing, ...]
    num_planned: int
    seconds: float
    slowness: tuple[float, ...]
    fit: LatencyFit

    def measured_ms(self, timing: Timing) -> float:
        """The latency of a timing at the usual speed of the machine."""
        return timing.ratio * self.fit.dense_ms / self.slowness[timing.group]

    @property
    def drift(self) -> float:
        """The slowest over the fastest group of the dense model, by medians: 1 on a machine of steady speed."""
        medians = [anchor.median_ms for anchor in self.anchors]
        return max(medians) / min(medians)

    @property
    def timing_noise(self) -> float:
        """Median over groups of the dense model's median over its minimum."""
        return statistics.median(anchor.timing_noise for anchor in self.anchors)

    @property
    def is_busy(self) -> bool:
        """Whether the machine did other work as well."""
        return self.timing_noise > BUSY_RATIO

    def sentences(self) -> list[str]:
        """What people should know, a line each."""
        error = self.fit.error
        lines = [
            f"{self.geometry.name} at {self.geometry.image_size[0]}x{self.geometry.image_size[1]} on "
            f"{self.conditions.describe()}",
            f"dense {self.fit.dense_ms:.4g} ms; {len(self.timings)} schedules and parts measured in "
            f"{self.seconds:.0f} s",
            f"error on {error.num_schedules} schedules held out: mean {error.mean:.1%}, worst {error.worst:.1%}; "
            f"a budget is met if the prediction and {error.margin:.1%} are below it",
            f"dense median over minimum {self.timing_noise:.3f}, slowest over fastest group {self.drift:.3f}",
        ]
        if len(self.timings) < self.num_planned:
            lines.append(
                f"the time limit left out {self.num_planned - len(self.timings)} of {self.num_planned} measurements; "
                "give more --seconds for a finer profile"
            )
        if self.is_busy:
            lines.append(
                f"the machine was busy: the dense model's median is {self.timing_noise:.2f} times its minimum even "
                "after a second attempt; ratios hold better than milliseconds, profile again on an idle machine"
            )
        return lines


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        ProfileError: Missing, not JSON, or not a profile of this version; names the offending key.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ProfileError(f"no such file: {path}; make it with: sparsesearch profile -o {path}") from error
    except (ValueError, OSError) as error:
        raise ProfileError(f"{path} is not readable JSON: {one_line(error)}") from error
    return parse_profile(document, what=str(path))


def parse_profile(document: object, *, what: str) -> Profile:
    """A profile from plain data.

    Args:
        document: The data.
        what: Where it comes from, for the message.

    Raises:
        ProfileError: It is none of this version.
    """
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > 1:
        raise ProfileError(f"{what} is a profile of version {version}; this program reads version 1: upgrade it")
    try:
        return Profile.model_validate(document)
    except ValidationError as error:
        raise ProfileError(f"{what} is not a profile of sparsesearch: {_short(one_line(error))}") from error


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile as JSON.

    Raises:
        ProfileError: The file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(profile.model_dump_json(indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ProfileError(f"cannot write {path}: {error.strerror}; name another file") from error


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."

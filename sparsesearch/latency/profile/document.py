"""A latency profile in one file: all measurements of a backbone on a device, and the fit."""

from __future__ import annotations

import hashlib
import json
import statistics
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from sparsesearch.errors import ProfileError, one_line
from sparsesearch.files.durable import write_file
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.shape import Method
from sparsesearch.study.latency_fit import LatencyFit
from sparsesearch.study.latency_record import BUSY_RATIO, Conditions, Latency
from sparsesearch.value import Value

_MAX_BYTES = 64_000_000
_DIGEST = "sha256"

Role = Literal["grid", "chain", "whole", "part", "held_out"]
"""Purpose of a measurement; see `latency.profile.design`."""


class Timing(Value):
    """A measured schedule or part.

    Attributes:
        role: Purpose of the measurement; see `latency.profile.design`.
        schedule: The schedule; the dense one for a part.
        num_tokens: Number of patch tokens of a part.
        group: Index of the group of interleaved calls; every group includes the dense model.
        latency: The measured latency.
        ratio: Median over rounds of its time relative to the dense model in the same round.
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
        geometry: Geometry of the backbone.
        methods: Methods of its schedules.
        stages: Stages of their steps.
        conditions: Conditions of the measurements.
        anchors: Latency of the dense model in each group.
        timings: All other measurements.
        num_planned: Number of timings without a time limit.
        seconds: Duration of all measurements.
        slowness: Correction factor of each group for the noise of its dense model; see `fit_profile`.
        fit: The fit. Like `slowness`, it is computed from the fields above.
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
        """The latency of a timing at the median speed of the machine."""
        return timing.ratio * self.fit.dense_ms / self.slowness[timing.group]

    @property
    def drift(self) -> float:
        """Ratio of the largest to the smallest dense median over groups: 1 on a machine of constant speed."""
        medians = [anchor.median_ms for anchor in self.anchors]
        return max(medians) / min(medians)

    @property
    def timing_noise(self) -> float:
        """Median over groups of the ratio of the dense model's median to its minimum."""
        return statistics.median(anchor.timing_noise for anchor in self.anchors)

    @property
    def is_busy(self) -> bool:
        """Whether other processes used the machine."""
        return self.timing_noise > BUSY_RATIO

    def sentences(self) -> list[str]:
        """Summary of the profile, one line per fact."""
        error = self.fit.error
        lines = [
            f"{self.geometry.name} at {self.geometry.image_size[0]}x{self.geometry.image_size[1]} on "
            f"{self.conditions.describe()}",
            f"dense {self.fit.dense_ms:.4g} ms; {len(self.timings)} schedules and parts measured in "
            f"{self.seconds:.0f} s",
            f"error on {error.num_schedules} held-out schedules: mean {error.mean:.1%}, worst {error.worst:.1%}; "
            f"a budget is met if the prediction plus a margin of {error.margin:.1%} is below it",
            f"timing noise (dense median over minimum) {self.timing_noise:.3f}, drift (slowest over fastest group) "
            f"{self.drift:.3f}",
        ]
        if len(self.timings) < self.num_planned:
            lines.append(
                f"{self.num_planned - len(self.timings)} of {self.num_planned} measurements were skipped because of "
                "the time limit; increase --seconds for a finer profile"
            )
        if self.is_busy:
            lines.append(
                f"the machine was busy: the dense model's median is {self.timing_noise:.2f} times its minimum even "
                "after a second attempt; repeat the profile on an idle machine"
            )
        return lines


def read_profile(path: Path) -> Profile:
    """Read a profile.

    Raises:
        ProfileError: The file is missing, not JSON, or not a profile of this version; names the invalid key.
    """
    try:
        with path.open("rb") as file:
            blob = file.read(_MAX_BYTES + 1)
        document = json.loads(blob.decode("utf-8-sig")) if len(blob) <= _MAX_BYTES else None
    except FileNotFoundError as error:
        raise ProfileError(f"no such file: {path}; create it with: sparsesearch profile -o {path}") from error
    except (ValueError, OSError, RecursionError) as error:
        raise ProfileError(f"{path} is not valid JSON: {one_line(error)}") from error
    if len(blob) > _MAX_BYTES:
        raise ProfileError(f"{path} is larger than {_MAX_BYTES:,} bytes, so it is not a profile of sparsesearch")
    digest = document.pop(_DIGEST, None) if isinstance(document, dict) else None
    if digest is not None and digest != _digest_of(document):
        raise ProfileError(f"{path} is damaged or was edited (its content does not match its SHA-256); export it again")
    return parse_profile(document, what=str(path))


def parse_profile(document: object, *, what: str) -> Profile:
    """Parse a profile from plain data.

    Args:
        document: The data.
        what: Its origin, for the error message.

    Raises:
        ProfileError: The data is not a profile of this version.
    """
    version = document.get("schema_version") if isinstance(document, dict) else None
    if isinstance(version, int) and version > 1:
        raise ProfileError(
            f"{what} is a profile of version {version}, but only version 1 is supported; upgrade sparsesearch"
        )
    try:
        return Profile.model_validate(document)
    except ValidationError as error:
        raise ProfileError(f"{what} is not a profile of sparsesearch: {_short(one_line(error))}") from error


def write_profile(profile: Profile, path: Path) -> None:
    """Write a profile as JSON, with a SHA-256 of its content.

    Raises:
        ProfileError: The file cannot be written.
    """
    try:
        document = profile.model_dump(mode="json")
        document[_DIGEST] = _digest_of(document)
        write_file(path, json.dumps(document, indent=1) + "\n")
    except OSError as error:
        raise ProfileError(f"cannot write {path}: {error.strerror}; choose another file") from error


def _digest_of(document: object) -> str:
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()


def _short(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:197]}..."

"""A search space resolved for a backbone: the form that sampling, counting, pricing and training work on."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from sparsesearch.schedule import Phase
from sparsesearch.schedule.methods import Merge
from sparsesearch.space.shape import Location, Method
from sparsesearch.value import Value


class StageLimits(Value):
    """The limits of the steps of one stage.

    Attributes:
        stage: Stage index.
        min_keep_ratio: Minimum fraction of the stage's initial tokens that are left, or on its slow path.
        max_keep_ratio: Maximum fraction of the stage's initial tokens that any step may leave.
        latest: The first step of the stage, if it has any, is at this block or before; None for no limit.
    """

    stage: int = Field(ge=0)
    min_keep_ratio: float = Field(gt=0.0, le=1.0)
    max_keep_ratio: float = Field(gt=0.0, le=1.0)
    latest: int | None = Field(ge=0, default=None)


class ResolvedSpace(Value):
    """A `SearchSpace` resolved for a geometry: nothing is left to defaults or to the backbone.

    Attributes:
        locations: Stage and block of every location, in order.
        methods: Methods to choose from; each is possible at some location, and some method at each location.
        methods_per: Whether one method is used throughout a schedule, or each location has its own.
        merge: The merge that may directly follow a prune or fuse; None if none may.
        phases: Positions inside a block at which that merge may be.
        min_predictors: Minimum number of predictors.
        max_predictors: Maximum number of predictors, over all stages.
        limits: One entry for every stage that has a location, in order.
        monotone: Whether ratios fall with depth inside a stage; False only if no method drops tokens.
    """

    locations: tuple[Location, ...] = Field(min_length=1)
    methods: tuple[Method, ...] = Field(min_length=1)
    methods_per: Literal["schedule", "location"]
    merge: Merge | None
    phases: tuple[Phase, ...]
    min_predictors: int = Field(ge=1)
    max_predictors: int = Field(ge=1)
    limits: tuple[StageLimits, ...] = Field(min_length=1)
    monotone: bool

    @property
    def firsts(self) -> dict[int, int]:
        """For each stage with a `latest` block, the last index into `locations` at which its first step may be."""
        return {
            limits.stage: max(i for i, (s, b) in enumerate(self.locations) if s == limits.stage and b <= limits.latest)
            for limits in self.limits
            if limits.latest is not None
        }

    @property
    def merges(self) -> tuple[Method, ...]:
        """The merges that may follow a prune or fuse, as methods: one per phase."""
        return () if self.merge is None else tuple(Method(reducer=self.merge, phase=phase) for phase in self.phases)

    def ratio_limits(self, stage: int) -> tuple[float, float]:
        """Minimum and maximum keep ratio of the steps of a stage that has a location."""
        limits = next(limits for limits in self.limits if limits.stage == stage)
        return limits.min_keep_ratio, limits.max_keep_ratio

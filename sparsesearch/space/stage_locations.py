"""The locations of one stage of a backbone that may be sparse."""

from __future__ import annotations

from pydantic import Field, model_validator

from sparsesearch.value import Value


class StageLocations(Value):
    """The locations of a stage that may be sparse, and its limits of keep ratios.

    Attributes:
        stage: Stage index.
        blocks: 0-based blocks of the stage that may have a step; empty means every block from `earliest` on, or,
            without it, every block except block 0 of stage 0.
        earliest: No step before this block.
        latest: The first step of the stage, if it has any, is at this block or before.
        min_keep_ratio: As in `SearchSpace`, for this stage; by default that of the space.
        max_keep_ratio: As in `SearchSpace`, for this stage; by default that of the space.
    """

    stage: int = Field(ge=0)
    blocks: tuple[int, ...] = ()
    earliest: int | None = Field(ge=0, default=None)
    latest: int | None = Field(ge=0, default=None)
    min_keep_ratio: float | None = Field(gt=0.0, le=1.0, default=None)
    max_keep_ratio: float | None = Field(gt=0.0, le=1.0, default=None)

    @model_validator(mode="after")
    def _consistent(self) -> StageLocations:
        if len(set(self.blocks)) != len(self.blocks):
            raise ValueError(f"blocks contains a duplicate: {list(self.blocks)}")
        if self.earliest is not None and self.latest is not None and self.earliest > self.latest:
            raise ValueError(f"earliest {self.earliest} is after latest {self.latest}")
        return self

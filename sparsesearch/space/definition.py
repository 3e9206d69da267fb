"""A search space as a small YAML document."""

from __future__ import annotations

from pathlib import Path

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sparsesearch.errors import SpaceError, one_line
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.methods import DynamicVitScorer, Scorer
from sparsesearch.resources import bundled


class SearchSpace(BaseModel):
    """Which schedules a search may propose for an isotropic backbone.

    Attributes:
        blocks: 0-based blocks that may have a predictor in front of them; empty means 1 to the last.
        min_predictors: Fewest predictors of a schedule.
        max_predictors: Most predictors of a schedule.
        min_keep_ratio: Smallest share of the initial tokens that may be left.
        scorers: Scores to choose from; one is used throughout a schedule.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    blocks: tuple[int, ...] = ()
    min_predictors: int = Field(ge=1, default=1)
    max_predictors: int = Field(ge=1, default=3)
    min_keep_ratio: float = Field(gt=0.0, le=1.0, default=0.02)
    scorers: tuple[Scorer, ...] = Field(min_length=1, default=(DynamicVitScorer(),))

    @model_validator(mode="after")
    def _consistent(self) -> SearchSpace:
        if self.min_predictors > self.max_predictors:
            raise ValueError(f"min_predictors {self.min_predictors} is above max_predictors {self.max_predictors}")
        if len(set(self.blocks)) != len(self.blocks):
            raise ValueError(f"blocks names a block twice: {list(self.blocks)}")
        if self.blocks and self.min_predictors > len(self.blocks):
            raise ValueError(f"min_predictors {self.min_predictors} is above the number of blocks {len(self.blocks)}")
        return self

    def for_geometry(self, geometry: BackboneGeometry) -> SearchSpace:
        """The space with its blocks spelled out and checked against a backbone.

        Raises:
            SpaceError: It names a block the backbone does not have, or leaves no schedule, or is of a hierarchical one.
        """
        if geometry.stages[0].mixer != "attention":
            raise SpaceError(
                f"{geometry.name} has no search space yet: schedules of ConvNeXt and Swin can be priced, trained and "
                "measured (sparsesearch cost, bench), but not searched; choose deit_s, lvvit_s or another ViT"
            )
        depth = geometry.stages[0].depth
        blocks = tuple(sorted(self.blocks)) or tuple(range(1, depth))
        outside = [block for block in blocks if not 0 <= block < depth]
        if outside:
            raise SpaceError(f"the space names block {outside[0]}, but {geometry.name} has blocks 0 to {depth - 1}")
        if self.min_predictors > len(blocks):
            raise SpaceError(
                f"the space wants at least {self.min_predictors} predictors, but has {len(blocks)} blocks to put them"
            )
        most = min(self.max_predictors, len(blocks))
        return self.model_copy(update={"blocks": blocks, "max_predictors": most})


def load_space(name_or_path: str) -> SearchSpace:
    """Read a space: a path to a YAML file, or the name of a bundled one.

    Raises:
        SpaceError: The file is missing, is not YAML, or has unknown or contradictory keys.
    """
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = bundled("spaces") / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in bundled("spaces").glob("*.yaml")))
        raise SpaceError(f"no search space {name_or_path!r}; bundled ones: {known}; or give the path of a .yaml file")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SpaceError(f"{path} is not readable YAML: {one_line(error)}") from error
    try:
        return SearchSpace.model_validate(document or {})
    except ValidationError as error:
        raise SpaceError(f"{path}: {one_line(error)}") from error


def space_for_backbone(backbone: str) -> SearchSpace:
    """The bundled space named after a resolved backbone (its part before `_patch`), else `isotropic`."""
    name = backbone.split("_patch")[0]
    return load_space(name if (bundled("spaces") / f"{name}.yaml").is_file() else "isotropic")

"""A search space as a small YAML document."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from sparsesearch.errors import SpaceError, one_line
from sparsesearch.files.documents import read_yaml
from sparsesearch.files.package_files import bundled
from sparsesearch.files.user_path import user_path
from sparsesearch.schedule import Phase
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import DynamicVitScorer, FastSlow, Merge, Reducer, Scorer
from sparsesearch.space.fitting import resolve
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.shape import Method
from sparsesearch.space.stage_locations import StageLocations
from sparsesearch.value import Value


class SearchSpace(Value):
    """Which schedules a search may propose.

    A predictor is a block with a step; a merge that follows a prune at the same block is not counted.

    Attributes:
        blocks: 0-based blocks that may have a step, of an isotropic backbone or of the deepest stage of a hierarchical
            one; empty means every block from `earliest` on, or, without it, every block but block 0 of stage 0.
        stages: Blocks per stage, for several stages of a hierarchical backbone; instead of `blocks`.
        earliest: No step before this block, of an isotropic backbone or of the deepest stage.
        latest: The first step is at this block or before, of an isotropic backbone or of the deepest stage.
        min_predictors: Minimum number of predictors. 0 is read as 1: the dense model is part of every study anyway.
        max_predictors: Maximum number of predictors, over all stages.
        min_keep_ratio: Minimum fraction of a stage's initial tokens that are left, or on its slow path.
        max_keep_ratio: Maximum fraction of a stage's initial tokens that any step may leave.
        reducers: Reducers to choose from; empty means prune, or fast_slow with the linear path on hierarchical
            backbones.
        scorers: Scorers to choose from.
        phases: Positions inside a block that steps may have.
        methods: Methods to choose from, as an explicit list. Empty means every valid combination of reducers, scorers
            and phases.
        methods_per: Whether one method is used throughout a schedule, or each location has its own.
        merge_after_prune: Whether a merge may directly follow a prune or fuse.
        monotone: Whether the fraction of slow positions falls with depth inside a stage; ratios of steps that drop
            tokens always fall.
    """

    blocks: tuple[int, ...] = ()
    stages: tuple[StageLocations, ...] | None = Field(min_length=1, default=None)
    earliest: int | None = Field(ge=0, default=None)
    latest: int | None = Field(ge=0, default=None)
    min_predictors: int = Field(ge=0, default=1)
    max_predictors: int = Field(ge=1, default=3)
    min_keep_ratio: float = Field(gt=0.0, le=1.0, default=0.02)
    max_keep_ratio: float = Field(gt=0.0, le=1.0, default=1.0)
    reducers: tuple[Reducer, ...] = ()
    scorers: tuple[Scorer, ...] = Field(min_length=1, default=(DynamicVitScorer(),))
    phases: tuple[Phase, ...] = Field(min_length=1, default=("before_block",))
    methods: tuple[Method, ...] = ()
    methods_per: Literal["schedule", "location"] = "schedule"
    merge_after_prune: bool = False
    monotone: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> SearchSpace:
        if self.min_predictors > self.max_predictors:
            raise ValueError(f"min_predictors {self.min_predictors} is above max_predictors {self.max_predictors}")
        if len(set(self.blocks)) != len(self.blocks):
            raise ValueError(f"blocks contains a duplicate: {list(self.blocks)}")
        if self.blocks and self.min_predictors > len(self.blocks):
            raise ValueError(f"min_predictors {self.min_predictors} is above the number of blocks {len(self.blocks)}")
        if self.earliest is not None and self.latest is not None and self.earliest > self.latest:
            raise ValueError(f"earliest {self.earliest} is after latest {self.latest}")
        if self.stages is not None:
            if self.blocks or self.earliest is not None or self.latest is not None:
                raise ValueError("give blocks, earliest and latest inside the entries of stages, not next to stages")
            named = [entry.stage for entry in self.stages]
            if len(set(named)) != len(named):
                raise ValueError(f"stages contains a duplicate: {named}")
        for entry in (None, *(self.stages or ())):
            low, high = self.ratio_limits(entry)
            if low > high:
                where = "" if entry is None else f" of stage {entry.stage}"
                raise ValueError(f"min_keep_ratio {low:g}{where} is above max_keep_ratio {high:g}")
        return self

    def resolve(self, geometry: BackboneGeometry) -> ResolvedSpace:
        """Resolve locations, methods and limits for a backbone.

        Methods that the backbone supports at no location are left out.

        Raises:
            SpaceError: The space names a block that the backbone does not have, or leaves no schedule; the message says
                how to fix it.
        """
        return resolve(self, geometry)

    @classmethod
    def of(cls, space: ResolvedSpace, geometry: BackboneGeometry) -> SearchSpace:
        """The space that names all blocks and methods of a resolved one; the inverse of `resolve`."""
        entries = tuple(
            StageLocations(
                blocks=tuple(block for stage, block in space.locations if stage == limits.stage), **limits.model_dump()
            )
            for limits in space.limits
        )
        is_isotropic = len(geometry.stages) == 1
        return cls(
            blocks=entries[0].blocks if is_isotropic else (),
            stages=None if is_isotropic else entries,
            latest=entries[0].latest if is_isotropic else None,
            min_predictors=space.min_predictors,
            max_predictors=space.max_predictors,
            min_keep_ratio=min(limits.min_keep_ratio for limits in space.limits),
            max_keep_ratio=max(limits.max_keep_ratio for limits in space.limits),
            reducers=() if space.merge is None else (space.merge,),
            phases=space.phases,
            methods=space.methods,
            methods_per=space.methods_per,
            merge_after_prune=space.merge is not None,
            monotone=space.monotone,
        )

    @property
    def merge(self) -> Merge:
        """The merge that may follow a prune: the first one among the reducers, else the default."""
        return next((reducer for reducer in self.reducers if isinstance(reducer, Merge)), Merge())

    def ratio_limits(self, entry: StageLocations | None) -> tuple[float, float]:
        """Minimum and maximum keep ratio of an entry of `stages`; those of the space if None."""
        low, high = (None, None) if entry is None else (entry.min_keep_ratio, entry.max_keep_ratio)
        return (
            self.min_keep_ratio if low is None else low,
            self.max_keep_ratio if high is None else high,
        )


def load_space(name_or_path: str) -> SearchSpace:
    """Read a space: a path to a YAML file, or the name of a bundled one.

    Raises:
        SpaceError: The file is missing, is not readable YAML, or has unknown or contradictory keys.
    """
    path = space_path(name_or_path)
    document = read_yaml(path, error=SpaceError)
    try:
        return SearchSpace.model_validate(document or {})
    except ValidationError as error:
        raise SpaceError(f"{path}: {one_line(error)}") from error


def space_path(name_or_path: str) -> Path:
    """The file of a space.

    Raises:
        SpaceError: There is no such file.
    """
    path = user_path(name_or_path, error=SpaceError)
    if path.suffix not in (".yaml", ".yml"):
        path = bundled("spaces") / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(bundled_spaces())
        raise SpaceError(f"no search space {name_or_path!r}; choose one of {known}, or give the path of a .yaml file")
    return path


def describe_space(name_or_path: str) -> str:
    """The description of a space file: its first comment line that is not meant for editors.

    Raises:
        SpaceError: There is no such file.
    """
    for line in space_path(name_or_path).read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("# ") and not line.startswith("# yaml-language-server"):
            return line.removeprefix("# ")
    return ""


def bundled_spaces() -> list[str]:
    """Names of the bundled spaces, sorted."""
    return sorted(path.stem for path in bundled("spaces").glob("*.yaml"))


def space_for_backbone(backbone: str, *, untrained: bool = False) -> SearchSpace:
    """The bundled space named after a resolved backbone (its part before `_patch`), else of its family.

    Args:
        backbone: The backbone.
        untrained: Whether schedules are evaluated without training, so that methods without weights cost nothing to
            have: `isotropic_untrained`, or for a hierarchical backbone its space with all methods, if there is one.
    """
    name = space_name_for(backbone)
    space = load_space(name)
    if not untrained:
        return space
    if not any(isinstance(reducer, FastSlow) for reducer in space.reducers):
        return load_space("isotropic_untrained")
    return load_space(f"{name}_full") if f"{name}_full" in bundled_spaces() else space


def space_name_for(backbone: str) -> str:
    """Name of the bundled space for a resolved backbone.

    It is the space that is named like the backbone (up to `_patch`), else like the first word of its name, else
    `isotropic`.
    """
    for name in (backbone.split("_patch")[0], backbone.partition("_")[0]):
        if (bundled("spaces") / f"{name}.yaml").is_file():
            return name
    return "isotropic"

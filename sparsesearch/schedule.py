"""The one currency: what a sparse model is, as a frozen value.

A `Schedule` lists where tokens are dropped, how many stay, and how they are chosen. Spaces produce it, costs price
it, backbones apply it, the store keeps it, exports write it. Nothing else describes a sparsification anywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from sparsesearch.errors import ScheduleError, one_line
from sparsesearch.geometry import BackboneGeometry

SCHEMA_VERSION: Literal[1] = 1

Phase = Literal["before_block", "before_ffn"]
_PHASE_ORDER = {"before_block": 0, "before_ffn": 1}


def num_kept(num_tokens: int, keep_ratio: float) -> int:
    """Tokens kept of `num_tokens` at `keep_ratio`: the only place of this package that rounds.

    The small addend repairs ratios that were written as a count over `num_tokens`; a plain floor would lose a token.

    Args:
        num_tokens: Patch tokens on entry, at least 1.
        keep_ratio: Share in (0, 1].
    """
    return max(1, math.floor(keep_ratio * num_tokens + 1e-9 * num_tokens))


class _Value(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Prune(_Value):
    """Drop the tokens that are not kept (DynamicViT, arXiv:2106.02034, section 3.3)."""

    kind: Literal["prune"] = "prune"


class DynamicVitScorer(_Value):
    """The learned predictor head of DynamicViT (arXiv:2106.02034, section 3.2)."""

    kind: Literal["dynamicvit"] = "dynamicvit"


class NormScorer(_Value):
    """Control without parameters: the L2 norm of each token; larger is kept."""

    kind: Literal["norm"] = "norm"


class RandomScorer(_Value):
    """Control without parameters: a fixed pseudo-random order of grid positions.

    Attributes:
        seed: Seed of the order.
    """

    kind: Literal["random"] = "random"
    seed: int = 0


Reducer = Prune
Scorer = Annotated[DynamicVitScorer | NormScorer | RandomScorer, Field(discriminator="kind")]


class Step(_Value):
    """One reduction at one location.

    Attributes:
        stage: Stage index, 0 for isotropic backbones.
        block: 0-based block inside the stage.
        phase: `before_block` (DynamicViT, SPOT) or `before_ffn`, between attention and feed-forward network (EViT,
            ToMe, DiffRate).
        keep_ratio: Share of the stage's *initial* patch tokens alive from here on, in (0, 1].
        reducer: What happens to tokens that are not kept.
        scorer: What ranks the tokens.
    """

    stage: int = Field(ge=0, default=0)
    block: int = Field(ge=0)
    phase: Phase = "before_block"
    keep_ratio: float = Field(gt=0.0, le=1.0)
    reducer: Reducer = Prune()
    scorer: Scorer = DynamicVitScorer()

    @property
    def location(self) -> tuple[int, int, int]:
        """Order of execution: stage, block, phase."""
        return (self.stage, self.block, _PHASE_ORDER[self.phase])


class ResolvedStep(_Value):
    """A `Step` against a geometry: `num_tokens` are left behind it (prefix tokens not counted)."""

    stage: int
    block: int
    phase: Phase
    num_tokens: int
    reducer: Reducer
    scorer: Scorer


class Schedule(_Value):
    """A whole sparsification: the steps in order of execution.

    Steps are sorted by location; several at one location apply in the order given. Keep ratios of `prune` never rise
    along the depth of a stage.
    """

    schema_version: Literal[1] = SCHEMA_VERSION
    steps: tuple[Step, ...] = ()

    @model_validator(mode="before")
    @classmethod
    def _sort(cls, data: object) -> object:
        if isinstance(data, dict) and isinstance(data.get("steps"), list | tuple):
            steps = [step if isinstance(step, Step) else Step.model_validate(step) for step in data["steps"]]
            data = {**data, "steps": tuple(sorted(steps, key=lambda step: step.location))}
        return data

    @model_validator(mode="after")
    def _monotone(self) -> Schedule:
        for earlier, later in zip(self.steps, self.steps[1:], strict=False):
            if earlier.stage == later.stage and later.keep_ratio > earlier.keep_ratio:
                raise ValueError(
                    f"keep_ratio rises from {earlier.keep_ratio:g} at block {earlier.block} to {later.keep_ratio:g} "
                    f"at block {later.block}; dropped tokens cannot come back, so ratios must not rise with depth"
                )
        return self

    @classmethod
    def at(cls, blocks: Sequence[int], keep_ratios: Sequence[float]) -> Schedule:
        """Prune with DynamicViT predictors before the given blocks of an isotropic backbone.

        Args:
            blocks: 0-based block indices.
            keep_ratios: Share of the initial tokens alive from each block on.

        Raises:
            ScheduleError: The lists differ in length, or a value is out of range.
        """
        if len(blocks) != len(keep_ratios):
            raise ScheduleError(
                f"{len(blocks)} locations but {len(keep_ratios)} keep ratios; give one ratio for each location"
            )
        if len(set(blocks)) != len(blocks):
            raise ScheduleError(f"a block is named twice in {list(blocks)}; give each location once")
        try:
            steps = [Step(block=b, keep_ratio=r) for b, r in zip(blocks, keep_ratios, strict=True)]
            return cls(steps=tuple(steps))
        except ValueError as error:
            raise ScheduleError(one_line(error)) from error

    @property
    def is_dense(self) -> bool:
        """Whether no step is listed at all."""
        return not self.steps

    def resolve(self, geometry: BackboneGeometry) -> tuple[ResolvedStep, ...]:
        """Canonical form: integer counts, and no step that would keep every token still alive.

        Raises:
            ScheduleError: A step names a stage or block that the backbone does not have.
        """
        resolved: list[ResolvedStep] = []
        alive: dict[int, int] = {}
        for step in self.steps:
            if step.stage >= len(geometry.stages):
                raise ScheduleError(
                    f"stage {step.stage} does not exist: {geometry.name} has stages 0 to {len(geometry.stages) - 1}"
                )
            stage = geometry.stages[step.stage]
            if step.block >= stage.depth:
                raise ScheduleError(
                    f"block {step.block} does not exist: {geometry.name} has blocks 0 to {stage.depth - 1}"
                )
            before = alive.get(step.stage, stage.num_tokens)
            count = min(before, num_kept(stage.num_tokens, step.keep_ratio))
            if count < before:
                alive[step.stage] = count
                resolved.append(
                    ResolvedStep(
                        stage=step.stage,
                        block=step.block,
                        phase=step.phase,
                        num_tokens=count,
                        reducer=step.reducer,
                        scorer=step.scorer,
                    )
                )
        return tuple(resolved)

    def canonical(self, geometry: BackboneGeometry) -> Schedule:
        """The same model written once and for all: ratios are counts over the initial tokens, no idle steps."""
        return Schedule(
            steps=tuple(
                Step(
                    stage=step.stage,
                    block=step.block,
                    phase=step.phase,
                    keep_ratio=step.num_tokens / geometry.stages[step.stage].num_tokens,
                    reducer=step.reducer,
                    scorer=step.scorer,
                )
                for step in self.resolve(geometry)
            )
        )

    def key(self, geometry: BackboneGeometry) -> str:
        """Fingerprint of the sparse model: equal for two schedules if and only if they are the same model.

        It names duplicates, caches and exports.
        """
        document = {
            "version": SCHEMA_VERSION,
            "backbone": geometry.name,
            "grids": [list(stage.grid) for stage in geometry.stages],
            "steps": [step.model_dump(mode="json") for step in self.resolve(geometry)],
        }
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def describe(self, geometry: BackboneGeometry) -> str:
        """One short line for tables: `3:137 6:96 9:67` means 137 tokens left before block 3, and so on."""
        words = []
        for step in self.resolve(geometry):
            stage = f"s{step.stage}." if len(geometry.stages) > 1 else ""
            phase = "" if step.phase == "before_block" else "ffn"
            scorer = "" if step.scorer.kind == "dynamicvit" else f"/{step.scorer.kind}"
            words.append(f"{stage}{step.block}{phase}:{step.num_tokens}{scorer}")
        return " ".join(words) or "dense"

"""The one currency: what a sparse model is, as a frozen value.

A `Schedule` lists where tokens are dropped, how many stay, and how they are chosen. Spaces produce it, costs price
it, backbones apply it, the store keeps it, exports write it. Nothing else describes a sparsification anywhere.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from typing import Literal

from pydantic import Field, model_validator

from sparsesearch.errors import ScheduleError, one_line
from sparsesearch.geometry import BackboneGeometry, StageGeometry
from sparsesearch.methods import (
    ClassAttentionScorer,
    DynamicVitScorer,
    FastSlow,
    Merge,
    Prune,
    Reducer,
    Scorer,
    SpotScorer,
    Value,
    reads_attention,
)

SCHEMA_VERSION: Literal[1] = 1

Phase = Literal["before_block", "before_ffn"]
_PRUNE = Prune()
_USUAL_SCORER = DynamicVitScorer()
PHASE_ORDER = {"before_block": 0, "before_ffn": 1}


def num_kept(num_tokens: int, keep_ratio: float) -> int:
    """Tokens kept of `num_tokens` at `keep_ratio`: the only place of this package that rounds.

    The small addend repairs ratios that were written as a count over `num_tokens`; a plain floor would lose a token.

    Args:
        num_tokens: Patch tokens on entry, at least 1.
        keep_ratio: Share in (0, 1].
    """
    return max(1, math.floor(keep_ratio * num_tokens + 1e-9 * num_tokens))


def usual_scorer(reducer: Reducer, scorer: Scorer | None, phase: Phase) -> Scorer | None:
    """The scorer of a step: DynamicViT's predictor where none is named and something is ranked.

    Raises:
        ValueError: Reducer, scorer and phase do not go together.
    """
    if isinstance(reducer, FastSlow) and phase != "before_block":
        raise ValueError("fast_slow chooses positions in front of a block; use phase before_block")
    if isinstance(reducer, Merge):
        if scorer is not None:
            raise ValueError("merge pairs similar tokens and ranks none; leave its scorer out")
        return None
    return _USUAL_SCORER if scorer is None else scorer


class Step(Value):
    """One reduction at one location.

    Attributes:
        stage: Stage index, 0 for isotropic backbones.
        block: 0-based block inside the stage.
        phase: `before_block` (DynamicViT, SPOT) or `before_ffn`, between attention and feed-forward network (EViT,
            ToMe, DiffRate).
        keep_ratio: Share of the stage's *initial* patch tokens alive from here on, in (0, 1]; for `fast_slow` the
            share of its positions on the slow path.
        reducer: What happens to tokens that are not kept.
        scorer: What ranks the tokens; left out, the predictor of DynamicViT. None for `merge`, which ranks nothing.
    """

    stage: int = Field(ge=0, default=0)
    block: int = Field(ge=0)
    phase: Phase = "before_block"
    keep_ratio: float = Field(gt=0.0, le=1.0)
    reducer: Reducer = Prune()
    scorer: Scorer | None = None

    @model_validator(mode="after")
    def _scorer_fits(self) -> Step:
        object.__setattr__(self, "scorer", usual_scorer(self.reducer, self.scorer, self.phase))
        return self

    @property
    def location(self) -> tuple[int, int, int]:
        """Order of execution: stage, block, phase."""
        return (self.stage, self.block, PHASE_ORDER[self.phase])


class ResolvedStep(Value):
    """A `Step` against a geometry.

    Attributes:
        stage: Stage index.
        block: 0-based block inside the stage.
        phase: As in `Step`.
        num_tokens: Patch tokens that go on, a fused one included; for `fast_slow` positions on the slow path.
        reducer: What happens to the others.
        scorer: What ranks tokens, if anything does.
        num_before: Patch tokens that arrive.
        num_layers: Attention layers whose statistics the scorer reads (SPOT), else 0.
    """

    stage: int
    block: int
    phase: Phase
    num_tokens: int
    reducer: Reducer
    scorer: Scorer | None
    num_before: int
    num_layers: int = 0

    @property
    def last_attention(self) -> int:
        """The block whose attention is the last one before this step; -1 if there is none."""
        return last_attention(self.block, self.phase)

    def num_statistics(self, stage: StageGeometry) -> int:
        """Numbers that SPOT reads beside each token, over its layers and heads; 0 for other scorers."""
        return num_statistics(self.scorer, stage, num_layers=self.num_layers)


class Schedule(Value):
    """A whole sparsification: the steps in order of execution.

    Steps are sorted by location; several at one location apply in the order given. Keep ratios never rise along the
    depth of a stage, except those of `fast_slow`, which drops nothing.
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
            if earlier.stage != later.stage or isinstance(later.reducer, FastSlow):
                continue
            if later.keep_ratio > earlier.keep_ratio:
                raise ValueError(
                    f"keep_ratio rises from {earlier.keep_ratio:g} at block {earlier.block} to {later.keep_ratio:g} "
                    f"at block {later.block}; dropped tokens cannot come back, so ratios must not rise with depth"
                )
        return self

    @classmethod
    def at(
        cls,
        blocks: Sequence[int],
        keep_ratios: Sequence[float],
        *,
        phase: Phase = "before_block",
        reducer: Reducer = _PRUNE,
        scorer: Scorer | None = None,
    ) -> Schedule:
        """The same kind of step at several blocks of an isotropic backbone; pruning by DynamicViT's unless told.

        Args:
            blocks: 0-based block indices.
            keep_ratios: Share of the initial tokens alive from each block on.
            phase: As in `Step`.
            reducer: As in `Step`.
            scorer: As in `Step`.

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
            steps = [
                Step(block=b, keep_ratio=r, phase=phase, reducer=reducer, scorer=scorer)
                for b, r in zip(blocks, keep_ratios, strict=True)
            ]
            return cls(steps=tuple(steps))
        except ValueError as error:
            raise ScheduleError(one_line(error)) from error

    @property
    def is_dense(self) -> bool:
        """Whether no step is listed at all."""
        return not self.steps

    def resolve(self, geometry: BackboneGeometry) -> tuple[ResolvedStep, ...]:
        """Canonical form: integer counts, and no step that changes nothing.

        Idle is a step that keeps every token still alive, and a `fast_slow` step with all positions on the slow path
        where they already are.

        Raises:
            ScheduleError: A step names a stage or block that the backbone does not have, or does what cannot be done
                there.
        """
        resolved: list[ResolvedStep] = []
        previous: dict[int, ResolvedStep] = {}
        for step in self.steps:
            stage = stage_of(geometry, step.stage, step.block)
            before = previous.get(step.stage)
            made = _resolve(step, stage, before)
            if made is not None:
                check_step(made, stage, geometry.name)
                previous[step.stage] = made
                resolved.append(made)
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
            "steps": [step.model_dump(mode="json", exclude=_DERIVED) for step in self.resolve(geometry)],
        }
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def describe(self, geometry: BackboneGeometry) -> str:
        """One short line for tables.

        `3:137 6:96 9:67` means 137 tokens left before block 3, and so on; `3ffn:138fuse/class_attention` fuses to 138
        tokens between attention and feed-forward network; `s2.1:137slow` has 137 positions on the slow path.
        """
        words = []
        for step in self.resolve(geometry):
            stage = f"s{step.stage}." if len(geometry.stages) > 1 else ""
            phase = "" if step.phase == "before_block" else "ffn"
            scorer = "" if step.scorer is None or step.scorer.kind == "dynamicvit" else f"/{step.scorer.kind}"
            words.append(f"{stage}{step.block}{phase}:{step.num_tokens}{_REDUCER_WORDS[step.reducer.kind]}{scorer}")
        return " ".join(words) or "dense"


_DERIVED = {"num_before", "num_layers"}
_REDUCER_WORDS = {"prune": "", "fuse": "fuse", "merge": "merge", "fast_slow": "slow"}


def stage_of(geometry: BackboneGeometry, stage: int, block: int) -> StageGeometry:
    """The stage that has a block.

    Raises:
        ScheduleError: There is no such stage or block.
    """
    if not 0 <= stage < len(geometry.stages):
        raise ScheduleError(f"stage {stage} does not exist: {geometry.name} has stages 0 to {len(geometry.stages) - 1}")
    found = geometry.stages[stage]
    if not 0 <= block < found.depth:
        where = f" in stage {stage}" if len(geometry.stages) > 1 else ""
        raise ScheduleError(f"block {block} does not exist: {geometry.name} has blocks 0 to {found.depth - 1}{where}")
    return found


def _resolve(step: Step, stage: StageGeometry, before: ResolvedStep | None) -> ResolvedStep | None:
    """The step in integers, or None if it is idle."""
    count = num_kept(stage.num_tokens, step.keep_ratio)
    if isinstance(step.reducer, FastSlow):
        alive = stage.num_tokens
        if count == alive and (before is None or before.num_tokens == alive):
            return None
    else:
        alive = stage.num_tokens if before is None else before.num_tokens
        count = min(alive, count)
        if count == alive:
            return None
    made = ResolvedStep(
        stage=step.stage,
        block=step.block,
        phase=step.phase,
        num_tokens=count,
        reducer=step.reducer,
        scorer=step.scorer,
        num_before=alive,
    )
    if not isinstance(step.scorer, SpotScorer):
        return made
    last_before = None if before is None else before.last_attention
    return made.model_copy(
        update={"num_layers": num_layers(step.scorer, last=made.last_attention, last_before=last_before)}
    )


def last_attention(block: int, phase: Phase) -> int:
    """The block whose attention is the last one before a step there; -1 if there is none."""
    return block if phase == "before_ffn" else block - 1


def num_layers(scorer: Scorer | None, *, last: int, last_before: int | None) -> int:
    """Layers whose statistics SPOT reads, 0 for other scorers; the last attention is always one of them.

    Args:
        scorer: What ranks tokens.
        last: The last attention before the step.
        last_before: The same of the step before it in the stage, None for the first.
    """
    if not isinstance(scorer, SpotScorer):
        return 0
    so_far = last + 1
    if scorer.layers == "all":
        return so_far
    if scorer.layers == "since_last":
        return max(1, so_far - (0 if last_before is None else last_before + 1))
    return min(scorer.layers, so_far)


def num_statistics(scorer: Scorer | None, stage: StageGeometry, *, num_layers: int) -> int:
    """Numbers that SPOT reads beside each token, over its layers and heads; 0 for other scorers."""
    if not isinstance(scorer, SpotScorer):
        return 0
    heads = stage.num_heads if scorer.heads == "concat" else 1
    return num_layers * heads * len(scorer.available(has_class_token=stage.has_class_token))


def check_step(step: ResolvedStep, stage: StageGeometry, name: str) -> None:
    """Refuse what cannot be done at a place.

    Args:
        step: What shall be done where.
        stage: Its stage.
        name: Of the backbone, for the message.

    Raises:
        ScheduleError: It cannot.
    """
    where = f"block {step.block}"
    is_fast_slow = isinstance(step.reducer, FastSlow)
    if not is_fast_slow and stage.mixer != "attention":
        raise ScheduleError(
            f"{step.reducer.kind} at {where} would tear holes into the grid that {name} works on; use fast_slow there"
        )
    if is_fast_slow and stage.mixer == "attention":
        raise ScheduleError(
            f"fast_slow at {where} is for backbones of convolutions or windows; {name} can prune, fuse or merge"
        )
    if reads_attention(step.reducer, step.scorer):
        asker = "merge" if step.scorer is None else step.scorer.kind
        if stage.mixer != "attention":
            raise ScheduleError(f"{asker} at {where} reads global attention, which {name} does not have there")
        if step.last_attention < 0:
            raise ScheduleError(
                f"{asker} at {where} reads the attention before it, and there is none; "
                "start at block 1, or use phase before_ffn"
            )
    if isinstance(step.scorer, ClassAttentionScorer) and not stage.has_class_token:
        raise ScheduleError(f"class_attention needs a class token, which {name} does not have; use another scorer")
    if isinstance(step.scorer, SpotScorer) and not step.num_statistics(stage):
        raise ScheduleError(
            f"spot at {where} asks for the class token's attention only, and {name} has no class token; "
            "name other statistics"
        )
    if isinstance(step.reducer, Merge) and step.num_tokens < (step.num_before + 1) // 2:
        raise ScheduleError(
            f"merge at {where} cannot go from {step.num_before} to {step.num_tokens} tokens: at most half of them have "
            f"a partner, so at least {(step.num_before + 1) // 2} stay; merge at several places"
        )

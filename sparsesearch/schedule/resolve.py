"""Resolve steps for a geometry: integer counts, and checks of what a location supports."""

from __future__ import annotations

from sparsesearch.errors import ScheduleError
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.methods import (
    ClassAttentionScorer,
    FastSlow,
    Merge,
    SpotScorer,
    reads_attention,
)
from sparsesearch.schedule.step import ResolvedStep, Step, num_kept, num_layers


def resolve_step(step: Step, stage: StageGeometry, before: ResolvedStep | None) -> ResolvedStep | None:
    """The step with integer counts; None if it is idle."""
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


def stage_of(geometry: BackboneGeometry, stage: int, block: int) -> StageGeometry:
    """The stage that contains a block.

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


def check_step(step: ResolvedStep, stage: StageGeometry, name: str) -> None:
    """Check that a step is supported at its location.

    Args:
        step: The step.
        stage: Its stage.
        name: Name of the backbone, for the message.

    Raises:
        ScheduleError: The step is not supported there.
    """
    where = f"block {step.block}"
    is_fast_slow = isinstance(step.reducer, FastSlow)
    if not is_fast_slow and stage.mixer != "attention":
        raise ScheduleError(
            f"{step.reducer.kind} at {where} would remove tokens from the grid that {name} requires; use fast_slow"
        )
    if is_fast_slow and stage.mixer == "attention":
        raise ScheduleError(
            f"fast_slow at {where} requires a backbone of convolutions or windows; use prune, fuse or merge on {name}"
        )
    if reads_attention(step.reducer, step.scorer):
        asker = "merge" if step.scorer is None else step.scorer.kind
        if stage.mixer != "attention":
            raise ScheduleError(
                f"{asker} at {where} reads global attention, which {name} does not have there; use another scorer"
            )
        if step.last_attention < 0:
            raise ScheduleError(
                f"{asker} at {where} reads the attention before it, but there is none; "
                "start at block 1, or use phase before_ffn"
            )
    if isinstance(step.scorer, ClassAttentionScorer) and not stage.has_class_token:
        raise ScheduleError(f"class_attention needs a class token, which {name} does not have; use another scorer")
    if isinstance(step.scorer, SpotScorer) and not step.num_statistics(stage):
        raise ScheduleError(
            f"spot at {where} uses only statistics of the class token, but {name} has no class token; "
            "use other statistics"
        )
    if isinstance(step.reducer, Merge) and step.num_tokens < (step.num_before + 1) // 2:
        raise ScheduleError(
            f"merge at {where} cannot go from {step.num_before} to {step.num_tokens} tokens: at most half of them have "
            f"a partner, so at least {(step.num_before + 1) // 2} stay; merge at several locations"
        )

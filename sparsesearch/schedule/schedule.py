"""Schedules: the definition of a sparse model as a frozen value.

A `Schedule` lists where tokens are dropped, how many are kept, and how they are selected. It is the only description of
a sparsification: spaces produce it, costs price it, backbones apply it, the store keeps it, and exports write it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Literal

from pydantic import model_validator

from sparsesearch.errors import ScheduleError, one_line
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import (
    FastSlow,
    Prune,
    Reducer,
    Scorer,
)
from sparsesearch.schedule.resolve import check_step, resolve_step, stage_of
from sparsesearch.schedule.step import Phase, ResolvedStep, Step
from sparsesearch.value import Value

SCHEMA_VERSION: Literal[1] = 1
_PRUNE = Prune()


class Schedule(Value):
    """A complete sparsification: its steps in order of execution.

    Steps are sorted by location; several at one location are applied in the given order. Keep ratios never rise with
    depth inside a stage, except those of `fast_slow`, which drops nothing.
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
        """The same kind of step at several blocks of an isotropic backbone; by default DynamicViT's pruning.

        Args:
            blocks: 0-based block indices.
            keep_ratios: Fraction of the initial tokens left from each block on.
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
            raise ScheduleError(f"duplicate block in {list(blocks)}; give each location once")
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
        """Whether the schedule has no steps."""
        return not self.steps

    def resolve(self, geometry: BackboneGeometry) -> tuple[ResolvedStep, ...]:
        """Canonical form: integer counts, and no idle steps.

        A step is idle if it keeps every token that is left, or is a `fast_slow` step that keeps all positions on the
        slow path.

        Raises:
            ScheduleError: A step names a stage or block that the backbone does not have, or is not supported there.
        """
        resolved: list[ResolvedStep] = []
        previous: dict[int, ResolvedStep] = {}
        for step in self.steps:
            stage = stage_of(geometry, step.stage, step.block)
            before = previous.get(step.stage)
            made = resolve_step(step, stage, before)
            if made is not None:
                check_step(made, stage, geometry.name)
                previous[step.stage] = made
                resolved.append(made)
        return tuple(resolved)

    def canonical(self, geometry: BackboneGeometry) -> Schedule:
        """The same model in canonical form: ratios are counts over the initial tokens, without idle steps."""
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

        It identifies duplicates, cache entries and exports.
        """
        document = {
            "version": SCHEMA_VERSION,
            "backbone": geometry.name,
            "grids": [list(stage.grid) for stage in geometry.stages],
            "steps": [step.model_dump(mode="json", exclude=_DERIVED) for step in self.resolve(geometry)],
        }
        text = json.dumps(document, sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _repr_html_(self) -> str:
        """The steps as a table, for notebooks."""
        if self.is_dense:
            return "<p>dense: no tokens are dropped</p>"
        head = "".join(f"<th>{name}</th>" for name in ("stage", "block", "where", "keep ratio", "reduction", "scorer"))
        rows = "".join(
            f"<tr><td>{step.stage}</td><td>{step.block}</td><td>{step.phase.replace('_', ' ')}</td>"
            f"<td>{step.keep_ratio:.4g}</td><td>{step.reducer.kind}</td>"
            f"<td>{'' if step.scorer is None else step.scorer.kind}</td></tr>"
            for step in self.steps
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"

    def describe(self, geometry: BackboneGeometry) -> str:
        """One short line for tables.

        `3:137 6:96 9:67` leaves 137 tokens before block 3, and so on; `3ffn:138fuse/class_attention` fuses to 138
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

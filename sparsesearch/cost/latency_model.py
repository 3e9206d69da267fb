"""Predicted latency of a schedule: the sum of the curves of a fitted profile over its parts.

The latency of a schedule is modelled as a sum: a constant, attention and feed-forward network of every block over the
tokens left there, and scoring and reduction at every step over the tokens that arrive and those that are left. Each
term depends on one count only, so the latency is separable over steps, and non-decreasing in every count. The budget
solver (`budget/solve.py`) requires both. The prediction error is measured and stated in every profile.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from sparsesearch.errors import ProfileError
from sparsesearch.schedule import Phase, Schedule, last_attention, num_layers
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.schedule.image_size import as_image_size, size_text
from sparsesearch.schedule.methods import FastSlow, Merge, Reducer, Scorer, SpotScorer, reads_attention
from sparsesearch.study.latency_fit import LatencyFit, shape_of_stages
from sparsesearch.study.protocols import StepTables

if TYPE_CHECKING:
    from sparsesearch.study.protocols import Price

REST = "everything else"

_NO_COST = {"seed", "detach", "layers", "normalize"}
"""Options with negligible effect on latency, or that only change the number of layers read."""


class StepLocation(Protocol):
    """Location and method of a step, without its count: a `ShapeStep`, a `Step` or a `ResolvedStep`."""

    @property
    def stage(self) -> int:
        """Stage index."""

    @property
    def block(self) -> int:
        """0-based block inside the stage."""

    @property
    def phase(self) -> Phase:
        """As in `Step`."""

    @property
    def reducer(self) -> Reducer:
        """What happens to tokens that are not kept."""

    @property
    def scorer(self) -> Scorer | None:
        """Ranks the tokens; None for a merge."""


class Use(NamedTuple):
    """A part that runs over the tokens left after a step.

    Attributes:
        curve: Name of the part.
        stage: Its stage.
        step: Index of the step; -1 for the initial tokens of the stage.
    """

    curve: str
    stage: int
    step: int


def uses(geometry: BackboneGeometry, steps: Sequence[StepLocation]) -> Counter[Use]:
    """The parts that a schedule runs, with the number of times each.

    Args:
        geometry: The backbone.
        steps: The steps in order of execution, none of them idle.
    """
    found: Counter[Use] = Counter({Use(REST, 0, -1): 1})
    last = -1
    for index, stage in enumerate(geometry.stages):
        here = [(number, step) for number, step in enumerate(steps) if step.stage == index]
        walk = _walk_tokens if stage.mixer == "attention" else _walk_grid
        last = walk(found, index, stage, here)
    if geometry.head_token_macs:
        found[Use("head", len(geometry.stages) - 1, last)] += 1
    return found


def _walk_tokens(found: Counter[Use], index: int, stage: StageGeometry, here: list[tuple[int, StepLocation]]) -> int:
    """Add the parts of a stage with global attention; return the index of its last step, -1 if it has none."""
    alive, weighs, before = -1, False, -1
    for block in range(stage.depth):
        for phase in ("before_block", "before_ffn"):
            for number, step in here:
                if (step.block, step.phase) != (block, phase):
                    continue
                last = last_attention(block, step.phase)
                scorer, reducer = scorer_key(step.scorer), reducer_key(step.reducer)
                layers = _layers_read(step, last=last, last_before=before)
                if layers:
                    found[Use(f"stage {index} read for {reducer if scorer == 'none' else scorer}", index, alive)] += (
                        layers
                    )
                found[Use(f"stage {index} score {scorer}", index, alive)] += step.scorer is not None
                found[Use(f"stage {index} reduce {reducer}", index, alive)] += 1
                found[Use(f"stage {index} keep {reducer}", index, number)] += 1
                alive, before = number, last
                weighs = weighs or (isinstance(step.reducer, Merge) and step.reducer.proportional_attention)
            if phase == "before_block":
                found[Use(f"stage {index} attention", index, alive)] += 1
                found[Use(f"stage {index} weigh", index, alive)] += weighs
        found[Use(f"stage {index} mlp", index, alive)] += 1
    return alive


def _walk_grid(found: Counter[Use], index: int, stage: StageGeometry, here: list[tuple[int, StepLocation]]) -> int:
    """Add the parts of a stage of convolutions or windows."""
    current, path = -1, "dense"
    for block in range(stage.depth):
        for number, step in here:
            if step.block == block:
                assert isinstance(step.reducer, FastSlow)
                found[Use(f"stage {index} score {scorer_key(step.scorer)}", index, -1)] += 1
                current, path = number, step.reducer.fast_path
        found[Use(f"stage {index} {path} block", index, current)] += 1
    return -1


def _layers_read(step: StepLocation, *, last: int, last_before: int) -> int:
    """Number of layers whose attention a step reads."""
    if isinstance(step.scorer, SpotScorer):
        return num_layers(step.scorer, last=last, last_before=last_before)
    return int(reads_attention(step.reducer, step.scorer))


def scorer_key(scorer: Scorer | None) -> str:
    """Key of a scorer; scorers with equal latency have equal keys."""
    return "none" if scorer is None else _key(scorer.kind, scorer.model_dump(exclude=_NO_COST, exclude_defaults=True))


def reducer_key(reducer: Reducer) -> str:
    """Key of a reducer; reducers with equal latency have equal keys."""
    return _key(reducer.kind, reducer.model_dump(exclude=_NO_COST, exclude_defaults=True))


def _key(kind: str, options: dict[str, object]) -> str:
    options.pop("kind", None)
    return f"{kind} {json.dumps(options, sort_keys=True)}" if options else kind


class LatencyModel:
    """Predicts latencies from a fitted profile; about as fast as counting multiply-adds.

    Attributes:
        fit: The fitted profile.
    """

    def __init__(self, fit: LatencyFit) -> None:
        self.fit = fit
        self._values: dict[tuple[str, int], NDArray[np.float64]] = {}

    def tables(self, geometry: BackboneGeometry, steps: Sequence[StepLocation]) -> StepTables:
        """Predicted milliseconds as a sum over steps; see `StepTables`. The tables are non-decreasing.

        Args:
            geometry: The backbone.
            steps: The steps in order of execution, without counts.

        Raises:
            ProfileError: The profile is of another backbone, or does not cover a method.
        """
        wanted = uses(geometry, steps)
        self._check(geometry, {use.curve for use, times in wanted.items() if times})
        base = 0.0
        tables = [np.zeros(geometry.stages[step.stage].num_tokens + 1) for step in steps]
        for use, times in wanted.items():
            if not times:
                continue
            values = self._curve(use.curve, geometry.stages[use.stage].num_tokens)
            if use.step < 0:
                base += times * float(values[-1])
            else:
                tables[use.step] += times * values
        return StepTables(base=base, tables=tuple(tables))

    def predict(self, geometry: BackboneGeometry, schedule: Schedule) -> float:
        """Predicted milliseconds per call.

        Args:
            geometry: The backbone.
            schedule: Any schedule of it.

        Raises:
            ProfileError: As in `tables`.
            ScheduleError: The schedule does not fit the backbone.
        """
        steps = schedule.resolve(geometry)
        base, tables = self.tables(geometry, steps)
        return float(base) + sum(float(table[step.num_tokens]) for table, step in zip(tables, steps, strict=True))

    def check_methods(self, geometry: BackboneGeometry, steps: Collection[StepLocation]) -> None:
        """Check that the profile covers each of these steps.

        Raises:
            ProfileError: It does not; the message says how to profile.
        """
        for step in steps:
            self._check(geometry, set(uses(geometry, [step])))

    def _curve(self, name: str, most: int) -> NDArray[np.float64]:
        key = (name, most)
        if key not in self._values:
            self._values[key] = self.fit.curves[name].values(most)
        return self._values[key]

    def _check(self, geometry: BackboneGeometry, curves: Collection[str] | Collection[Use]) -> None:
        names = {one.curve if isinstance(one, Use) else one for one in curves}
        if self.fit.shape != shape_of_stages(geometry):
            size = size_text(as_image_size(geometry.image_size))
            raise ProfileError(
                f"the profile is of {self.fit.backbone}, not of {geometry.name} at {_size(geometry)}; "
                f"make one with: sparsesearch profile --backbone {geometry.name} --image-size {size}"
            )
        missing = sorted(names - self.fit.curves.keys())
        if missing:
            raise ProfileError(
                f"the profile of {self.fit.backbone} lacks {missing[0]!r}; profile again with --methods all"
            )


class LatencyPrice:
    """Upper bound of the latency with 90 % confidence: prediction plus margin (protocol `Price`).

    Args:
        fit: A fitted profile.
    """

    def __init__(self, fit: LatencyFit) -> None:
        self.model = LatencyModel(fit)
        self.scale = 1.0 + fit.error.margin
        self._identity = hashlib.sha256(fit.model_dump_json().encode()).hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LatencyPrice) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @property
    def unit(self) -> Literal["ms"]:
        """Milliseconds per call."""
        return "ms"

    def tables(self, geometry: BackboneGeometry, steps: Sequence[StepLocation]) -> StepTables:
        """As `LatencyModel.tables`, including the margin."""
        base, tables = self.model.tables(geometry, steps)
        return StepTables(base=self.scale * base, tables=tuple(self.scale * table for table in tables))

    def of(self, geometry: BackboneGeometry, schedule: Schedule) -> float:
        """As `LatencyModel.predict`, including the margin; the dense latency is measured and has no margin."""
        if schedule.is_dense:
            return self.model.fit.dense_ms
        steps = schedule.resolve(geometry)
        base, tables = self.tables(geometry, steps)
        return float(base) + sum(float(table[step.num_tokens]) for table, step in zip(tables, steps, strict=True))


def _size(geometry: BackboneGeometry) -> str:
    return f"{geometry.image_size[0]}x{geometry.image_size[1]}"


if TYPE_CHECKING:

    def _conforms(fit: LatencyFit) -> Price:
        return LatencyPrice(fit)

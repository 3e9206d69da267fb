"""Predicted latency of a schedule: curves of a fitted profile, added up over its parts.

The time of a schedule is taken to be a sum: what no schedule changes, attention and feed-forward network of every
block over the tokens that are left there, and what choosing and moving tokens costs at every step, over those that
arrive and those that go on. Each summand depends on one count alone, so latency is separable over the steps of a
schedule, and never falls when a token more is kept. Both is what a search under a budget needs
(`search/proposals.py`); how far it is from the truth is measured and stated in every profile.
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
from sparsesearch.schedule.methods import FastSlow, Merge, Reducer, Scorer, SpotScorer, reads_attention
from sparsesearch.study.latency_fit import LatencyFit, shape_of_stages
from sparsesearch.study.protocols import StepTables

if TYPE_CHECKING:
    from sparsesearch.study.protocols import Price

REST = "everything else"

_NO_COST = {"seed", "detach", "layers", "normalize"}
"""Options that change no latency to speak of, or only the number of layers that are read."""


class StepLocation(Protocol):
    """Where a step is and what it does, its count left open: a `ShapeStep`, a `Step` or a `ResolvedStep`."""

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
        """What ranks them."""


class Use(NamedTuple):
    """A part that runs over the tokens left behind a step.

    Attributes:
        curve: Name of the part.
        stage: Its stage.
        step: Index of the step; -1 for the initial tokens of the stage.
    """

    curve: str
    stage: int
    step: int


def uses(geometry: BackboneGeometry, places: Sequence[StepLocation]) -> Counter[Use]:
    """The parts that a schedule runs, and how often each.

    Args:
        geometry: The backbone.
        places: The steps in order of execution, none of them idle.
    """
    found: Counter[Use] = Counter({Use(REST, 0, -1): 1})
    last = -1
    for index, stage in enumerate(geometry.stages):
        here = [(step, place) for step, place in enumerate(places) if place.stage == index]
        walk = _walk_tokens if stage.mixer == "attention" else _walk_grid
        last = walk(found, index, stage, here)
    if geometry.head_token_macs:
        found[Use("head", len(geometry.stages) - 1, last)] += 1
    return found


def _walk_tokens(found: Counter[Use], index: int, stage: StageGeometry, here: list[tuple[int, StepLocation]]) -> int:
    """Add what a stage of global attention runs; returns the step that its last block runs behind."""
    alive, weighs, before = -1, False, -1
    for block in range(stage.depth):
        for phase in ("before_block", "before_ffn"):
            for step, place in here:
                if (place.block, place.phase) != (block, phase):
                    continue
                last = last_attention(block, place.phase)
                scorer, reducer = scorer_key(place.scorer), reducer_key(place.reducer)
                layers = _layers_read(place, last=last, last_before=before)
                if layers:
                    found[Use(f"stage {index} read for {reducer if scorer == 'none' else scorer}", index, alive)] += (
                        layers
                    )
                found[Use(f"stage {index} score {scorer}", index, alive)] += place.scorer is not None
                found[Use(f"stage {index} reduce {reducer}", index, alive)] += 1
                found[Use(f"stage {index} keep {reducer}", index, step)] += 1
                alive, before = step, last
                weighs = weighs or (isinstance(place.reducer, Merge) and place.reducer.proportional_attention)
            if phase == "before_block":
                found[Use(f"stage {index} attention", index, alive)] += 1
                found[Use(f"stage {index} weigh", index, alive)] += weighs
        found[Use(f"stage {index} mlp", index, alive)] += 1
    return alive


def _walk_grid(found: Counter[Use], index: int, stage: StageGeometry, here: list[tuple[int, StepLocation]]) -> int:
    """Add what a stage of convolutions or windows runs."""
    step, path = -1, "dense"
    for block in range(stage.depth):
        for number, place in here:
            if place.block == block:
                assert isinstance(place.reducer, FastSlow)
                found[Use(f"stage {index} score {scorer_key(place.scorer)}", index, -1)] += 1
                step, path = number, place.reducer.fast_path
        found[Use(f"stage {index} {path} block", index, step)] += 1
    return -1


def _layers_read(place: StepLocation, *, last: int, last_before: int) -> int:
    """Layers whose attention a step reads."""
    if isinstance(place.scorer, SpotScorer):
        return num_layers(place.scorer, last=last, last_before=last_before)
    return int(reads_attention(place.reducer, place.scorer))


def scorer_key(scorer: Scorer | None) -> str:
    """A name that scorers of one latency share."""
    return "none" if scorer is None else _key(scorer.kind, scorer.model_dump(exclude=_NO_COST, exclude_defaults=True))


def reducer_key(reducer: Reducer) -> str:
    """A name that reducers of one latency share."""
    return _key(reducer.kind, reducer.model_dump(exclude=_NO_COST, exclude_defaults=True))


def _key(kind: str, options: dict[str, object]) -> str:
    options.pop("kind", None)
    return f"{kind} {json.dumps(options, sort_keys=True)}" if options else kind


class LatencyModel:
    """Predicts latencies from a fit. Pure and quick: about as expensive as counting multiply-adds.

    Attributes:
        fit: What it rests on.
    """

    def __init__(self, fit: LatencyFit) -> None:
        self.fit = fit
        self._values: dict[tuple[str, int], NDArray[np.float64]] = {}

    def tables(self, geometry: BackboneGeometry, steps: Sequence[StepLocation]) -> StepTables:
        """Predicted milliseconds as a sum over steps; see `StepTables`. The tables never fall.

        Args:
            geometry: The backbone.
            steps: The steps in order of execution, their counts left open.

        Raises:
            ProfileError: The profile is of another backbone, or knows nothing of a method.
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
        """Predicted milliseconds of one call.

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

    def check_methods(self, geometry: BackboneGeometry, places: Collection[StepLocation]) -> None:
        """Make sure that each of these steps can be priced.

        Raises:
            ProfileError: One cannot; says how to profile.
        """
        for place in places:
            self._check(geometry, set(uses(geometry, [place])))

    def _curve(self, name: str, most: int) -> NDArray[np.float64]:
        key = (name, most)
        if key not in self._values:
            self._values[key] = self.fit.curves[name].values(most)
        return self._values[key]

    def _check(self, geometry: BackboneGeometry, curves: Collection[str] | Collection[Use]) -> None:
        names = {one.curve if isinstance(one, Use) else one for one in curves}
        if self.fit.shape != shape_of_stages(geometry):
            raise ProfileError(
                f"the profile is of {self.fit.backbone}, not of {geometry.name} at {_size(geometry)}; "
                f"profile it: sparsesearch profile --backbone {geometry.name} --image-size {geometry.image_size[0]}"
            )
        missing = sorted(names - self.fit.curves.keys())
        if missing:
            raise ProfileError(
                f"the profile of {self.fit.backbone} has not measured {missing[0]!r}; profile again with --methods all"
            )


class LatencyPrice:
    """Milliseconds that a schedule stays below nine times of ten: prediction and margin (protocol `Price`).

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
        """Milliseconds of one call."""
        return "ms"

    def tables(self, geometry: BackboneGeometry, steps: Sequence[StepLocation]) -> StepTables:
        """As `LatencyModel.tables`, margin included."""
        base, tables = self.model.tables(geometry, steps)
        return StepTables(base=self.scale * base, tables=tuple(self.scale * table for table in tables))

    def of(self, geometry: BackboneGeometry, schedule: Schedule) -> float:
        """As `LatencyModel.predict`, margin included; the dense model's latency is measured and needs none."""
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

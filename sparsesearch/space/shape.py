"""Shapes: schedules without their scale, that is locations, methods and relative drops of the steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pydantic import Field, model_validator

from sparsesearch.schedule import PHASE_ORDER, Phase, Schedule, Step, default_scorer
from sparsesearch.schedule.methods import FastSlow, Fuse, Merge, Prune, Reducer, Scorer, reads_attention
from sparsesearch.value import Value

MIN_WEIGHT = 0.05

Location = tuple[int, int]


class Method(Value):
    """What may be done at a location: one choice of reduction, score and phase.

    Attributes:
        reducer: What happens to tokens that are not kept.
        scorer: Ranks the tokens; by default the predictor of DynamicViT. None for `merge`, which ranks nothing.
        phase: Before the block, or between its attention and its feed-forward network.
    """

    reducer: Reducer = Prune()
    scorer: Scorer | None = None
    phase: Phase = "before_block"

    @model_validator(mode="after")
    def _scorer_fits(self) -> Method:
        object.__setattr__(self, "scorer", default_scorer(self.reducer, self.scorer, self.phase))
        return self

    def is_possible_at(self, location: Location) -> bool:
        """Whether the method is possible at a location: whether the attention that it reads is computed before it.

        Args:
            location: Stage and block.
        """
        return location[1] > 0 or self.phase == "before_ffn" or not reads_attention(self.reducer, self.scorer)

    def describe(self) -> str:
        """Short text for tables, for example `fuse/class_attention before_ffn`."""
        words = self.reducer.kind if self.scorer is None else f"{self.reducer.kind}/{self.scorer.kind}"
        if isinstance(self.reducer, FastSlow) and self.reducer.fast_path != "linear":
            words += f" ({self.reducer.fast_path})"
        return words if self.phase == "before_block" else f"{words} {self.phase}"


class ShapeStep(Value):
    """One step of a shape: a location, a method, and a relative weight.

    Attributes:
        stage: Stage index, 0 for isotropic backbones.
        block: 0-based block inside the stage.
        phase: As in `Step`.
        weight: Its relative contribution to the drop of its stage, on the logarithmic scale; only ratios between
            weights of a shape matter.
        reducer: As in `Step`.
        scorer: As in `Step`.
    """

    stage: int = Field(ge=0, default=0)
    block: int = Field(ge=0)
    phase: Phase = "before_block"
    weight: float = Field(gt=0.0, allow_inf_nan=False, default=1.0)
    reducer: Reducer = Prune()
    scorer: Scorer | None = None

    @model_validator(mode="after")
    def _scorer_fits(self) -> ShapeStep:
        object.__setattr__(self, "scorer", default_scorer(self.reducer, self.scorer, self.phase))
        return self

    @property
    def location(self) -> tuple[int, int, int]:
        """Order of execution: stage, block, phase."""
        return (self.stage, self.block, PHASE_ORDER[self.phase])

    @property
    def method(self) -> Method:
        """Its method, without the location."""
        return Method(reducer=self.reducer, scorer=self.scorer, phase=self.phase)


class LocatedMethod(NamedTuple):
    """What a shape does at one block: a method, optionally followed by a merge.

    Attributes:
        location: Stage and block.
        method: The first or only method.
        weight: Total weight.
        merge: The merge after it, or None.
        merge_share: Fraction of the weight for the merge; 0 without a merge.
    """

    location: Location
    method: Method
    weight: float
    merge: Merge | None = None
    merge_share: float = 0.0

    @property
    def steps(self) -> tuple[ShapeStep, ...]:
        """The steps of the shape at this location."""
        (stage, block), method = self.location, self.method
        first = ShapeStep(
            stage=stage,
            block=block,
            phase=method.phase,
            weight=self.weight * (1.0 - self.merge_share),
            reducer=method.reducer,
            scorer=method.scorer,
        )
        if self.merge is None:
            return (first,)
        weight = self.weight * self.merge_share
        return (first, ShapeStep(stage=stage, block=block, phase=method.phase, weight=weight, reducer=self.merge))


class Shape(Value):
    """Locations, methods and relative drops of the steps; one scalar rho then fixes all keep ratios.

    Step `i` keeps `rho ** e_i` of the initial tokens of its stage, where `e_i` is the sum of the weights of its stage
    up to `i`, scaled so that the largest exponent is 1. Weights `(1, 1, 1)` are the baseline rho, rho^2, rho^3.

    Attributes:
        steps: Sorted by location. A location and phase has one step, or a prune or fuse before a merge.
        monotone: Whether ratios fall inside a stage. False only for `fast_slow`, which drops nothing: then `e_i` is the
            weight of step `i` alone, so that the fraction of slow positions may rise again.
    """

    steps: tuple[ShapeStep, ...] = Field(min_length=1)
    monotone: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> Shape:
        for earlier, later in zip(self.steps, self.steps[1:], strict=False):
            if later.location < earlier.location:
                raise ValueError(f"steps must be sorted by location; block {later.block} follows {earlier.block}")
            if later.location == earlier.location and not (
                isinstance(earlier.reducer, Prune | Fuse) and isinstance(later.reducer, Merge)
            ):
                raise ValueError(
                    f"two steps at block {later.block} ({later.phase}); only a merge after a prune or fuse can share a "
                    "location"
                )
        if not self.monotone and not all(isinstance(step.reducer, FastSlow) for step in self.steps):
            raise ValueError("only fast_slow steps may have rising ratios; set monotone for prune, fuse and merge")
        return self

    @classmethod
    def at(
        cls,
        blocks: Sequence[int],
        weights: Sequence[float] | None = None,
        *,
        stage: int = 0,
        method: Method | None = None,
        monotone: bool = True,
    ) -> Shape:
        """The same method at several blocks of one stage.

        Args:
            blocks: 0-based blocks, strictly increasing.
            weights: One per block; equal by default.
            stage: Stage index.
            method: The method; by default pruning with the predictor of DynamicViT.
            monotone: As in `Shape`.

        Raises:
            ValueError: The lists differ in length, or blocks are not increasing.
        """
        weights = (1.0,) * len(blocks) if weights is None else tuple(weights)
        if len(blocks) != len(weights):
            raise ValueError(f"{len(blocks)} blocks but {len(weights)} weights; give one weight per block")
        repeated = method or Method()
        located = [LocatedMethod((stage, b), repeated, w) for b, w in zip(blocks, weights, strict=True)]
        return cls.of_methods(located, monotone=monotone)

    @classmethod
    def of_methods(cls, located: Sequence[LocatedMethod], *, monotone: bool = True) -> Shape:
        """A shape from the methods at each block, in order of blocks."""
        return cls(steps=tuple(step for one in located for step in one.steps), monotone=monotone)

    @property
    def located_methods(self) -> tuple[LocatedMethod, ...]:
        """The method at each block, together with the merge that follows it."""
        found: list[LocatedMethod] = []
        last: ShapeStep | None = None
        for step in self.steps:
            if last is not None and step.location == last.location:
                assert isinstance(step.reducer, Merge)
                weight = last.weight + step.weight
                share = step.weight / weight
                found[-1] = found[-1]._replace(weight=weight, merge=step.reducer, merge_share=share)
            else:
                found.append(LocatedMethod((step.stage, step.block), step.method, step.weight))
            last = step
        return tuple(found)

    @property
    def blocks(self) -> tuple[int, ...]:
        """0-based blocks of its predictors, each inside its stage."""
        return tuple(one.location[1] for one in self.located_methods)

    @property
    def weights(self) -> tuple[float, ...]:
        """Weights of its steps."""
        return tuple(step.weight for step in self.steps)

    @property
    def exponents(self) -> tuple[float, ...]:
        """Cumulative weights inside each stage (single weights if not monotone), scaled so that the largest is 1."""
        total: list[float] = []
        stage, sofar = -1, 0.0
        for step in self.steps:
            sofar = step.weight if step.stage != stage or not self.monotone else sofar + step.weight
            stage = step.stage
            total.append(sofar)
        largest = max(total)
        return tuple(value / largest for value in total)

    def schedule(self, keep_ratios: Sequence[float]) -> Schedule:
        """The schedule with these ratios.

        Args:
            keep_ratios: One per step, as a fraction of the initial tokens of its stage.
        """
        return Schedule(
            steps=tuple(
                Step(
                    stage=step.stage,
                    block=step.block,
                    phase=step.phase,
                    keep_ratio=ratio,
                    reducer=step.reducer,
                    scorer=step.scorer,
                )
                for step, ratio in zip(self.steps, keep_ratios, strict=True)
            )
        )

    def canonical(self) -> Shape:
        """The same shape with weights scaled to a maximum of 1 and clipped to at least `MIN_WEIGHT`."""
        located = self.located_methods
        weights = canonical_weights([one.weight for one in located])
        return Shape.of_methods(
            [
                one._replace(weight=weight, merge_share=canonical_share(one.merge_share))
                for one, weight in zip(located, weights, strict=True)
            ],
            monotone=self.monotone,
        )


def canonical_weights(weights: Sequence[float]) -> tuple[float, ...]:
    """Weights scaled to a maximum of 1 and clipped to at least `MIN_WEIGHT`; a single weight becomes 1."""
    largest = max(weights)
    return tuple(min(1.0, max(MIN_WEIGHT, weight / largest)) for weight in weights)


def canonical_share(merge_share: float) -> float:
    """The fraction of a merge, clipped away from 0 and 1; 0 (no merge) stays 0."""
    return 0.0 if merge_share == 0.0 else min(1.0 - MIN_WEIGHT, max(MIN_WEIGHT, merge_share))

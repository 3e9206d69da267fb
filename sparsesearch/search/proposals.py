"""Schedules that use a budget up: a shape is scaled until one more token anywhere would break the budget.

Nothing here draws at random. Counts are patch tokens, prefix tokens not counted; costs are multiply-adds of one image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sparsesearch.cost.analytic import dense_macs, isotropic_stage
from sparsesearch.cost.selection import scorer_macs
from sparsesearch.cost.tokens import attention_macs
from sparsesearch.errors import BudgetError
from sparsesearch.geometry import BackboneGeometry, StageGeometry
from sparsesearch.methods import Scorer
from sparsesearch.schedule import Schedule, Step, num_kept
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.sampling import Shape
from sparsesearch.spec import Budget

WORTHWHILE = 0.97
_BISECTIONS = 48


def fit_to_budget(geometry: BackboneGeometry, space: SearchSpace, *, shape: Shape, budget_macs: int) -> Schedule | None:
    """The schedule of a shape that is maximal under a budget.

    One scalar rho is solved by bisection, then single tokens are added, the dearest that still fits first, until one
    more token anywhere would break the budget. Counts fall strictly from step to step, so that no step is idle, and
    none falls below `num_kept(N, space.min_keep_ratio)`.

    Args:
        geometry: An isotropic backbone.
        space: Its `min_keep_ratio` limits the counts; its other limits are the caller's business.
        shape: Where tokens are dropped and how the drops compare.
        budget_macs: Upper limit in multiply-adds, never exceeded.

    Returns:
        The schedule, or None if the shape does not fit: it costs too much even at its smallest counts, or too little
        (below `WORTHWHILE` of the budget) even at its largest, or there are fewer tokens than steps.
    """
    ladder = _Ladder(geometry, min_keep_ratio=space.min_keep_ratio, blocks=shape.blocks, scorer=shape.scorer)
    if not ladder.exists or ladder.cost(ladder.lowest) > budget_macs:
        return None
    top = ladder.cost(ladder.highest)
    if top <= budget_macs:
        return ladder.schedule(ladder.highest) if top >= WORTHWHILE * budget_macs else None
    exponents = shape.exponents
    counts, low, high = ladder.lowest, math.log(1.0 / (2.0 * ladder.num_tokens)) / exponents[0], 0.0
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        tried = ladder.counts([math.exp(middle * exponent) for exponent in exponents])
        if ladder.cost(tried) <= budget_macs:
            counts, low = tried, middle
        else:
            high = middle
    return ladder.schedule(ladder.fill(counts, budget_macs=budget_macs))


def minimal_macs(geometry: BackboneGeometry, space: SearchSpace, *, shape: Shape) -> int:
    """Cost of a shape at its smallest counts: no budget below it can be met.

    Raises:
        BudgetError: The backbone has fewer tokens than the shape has steps.
    """
    ladder = _Ladder(geometry, min_keep_ratio=space.min_keep_ratio, blocks=shape.blocks, scorer=shape.scorer)
    if not ladder.exists:
        raise BudgetError(
            f"{len(shape.blocks)} steps do not fit {ladder.num_tokens} tokens of {geometry.name}; use fewer predictors"
        )
    return ladder.cost(ladder.lowest)


def attainable(geometry: BackboneGeometry, space: SearchSpace) -> tuple[int, int]:
    """Cheapest and dearest schedule of a space in multiply-adds.

    Raises:
        BudgetError: No schedule of the space fits the token grid.
    """
    space = space.for_geometry(geometry)
    ends = _all_ends(geometry, space=space)
    if not ends:
        raise BudgetError(
            f"no schedule fits the {isotropic_stage(geometry).num_tokens} tokens of {geometry.name} with at least "
            f"{space.min_predictors} predictors and min_keep_ratio {space.min_keep_ratio:g}; lower one of them"
        )
    return min(low for low, _ in ends), max(high for _, high in ends)


def first_place_floors(geometry: BackboneGeometry, space: SearchSpace) -> tuple[int, ...]:
    """For each block of a space, the least cost of a schedule whose first step lies there or behind.

    A budget below the entry of a block rules that block out as the first; a sampler need not try it.

    Args:
        geometry: An isotropic backbone.
        space: Its space, blocks spelled out.

    Returns:
        Multiply-adds, one entry an index into `space.blocks`, not falling. Blocks that leave too few behind them for
        the fewest predictors are left off.
    """
    floors = []
    for place in range(len(space.blocks) - space.min_predictors + 1):
        rest = space.model_copy(update={"blocks": space.blocks[place:]})
        ends = _all_ends(geometry, space=rest)
        if ends:
            floors.append(min(low for low, _ in ends))
    return tuple(floors)


def check_budget(geometry: BackboneGeometry, space: SearchSpace, *, budget: Budget) -> tuple[int | None, int]:
    """Lower end (None for a single budget) and limit in multiply-adds, once it is sure that both can be met.

    Raises:
        BudgetError: The budget is out of reach, or the dense model is already within it.
    """
    dense = dense_macs(geometry)
    low, high = budget.macs(dense)
    if high >= dense:
        raise BudgetError(
            f"the budget {budget} needs no search: dense {geometry.name} costs {_gflops(dense)}; give a smaller budget"
        )
    for end in (high,) if low is None else (low, high):
        check_reachable(geometry, space=space, budget_macs=end)
    return low, high


def check_reachable(geometry: BackboneGeometry, space: SearchSpace, *, budget_macs: int) -> None:
    """Make sure that some schedule of a space comes close below a budget.

    Raises:
        BudgetError: None does; the message states the attainable interval, rounded so that its ends can be typed in.
    """
    least, most = attainable(geometry, space=space)
    if least <= budget_macs and WORTHWHILE * budget_macs <= most:
        return
    dense = dense_macs(geometry)
    most = min(most, dense - 1)
    raise BudgetError(
        f"no schedule of this space meets {_gflops(budget_macs)}, {100 * budget_macs / dense:.4g}% of dense; "
        f"{geometry.name} can do {_digits(least / 1e9, up=True)} to {_digits(most / 1e9)} GFLOPs (multiply-adds), that "
        f"is {_digits(100 * least / dense, up=True)}% to {_digits(100 * most / dense)}% of dense; "
        f"give a budget in that interval"
    )


def _digits(value: float, *, up: bool = False) -> str:
    """Four significant digits, cut or rounded up."""
    scale = 10.0 ** (3 - math.floor(math.log10(value)))
    return f"{(math.ceil(value * scale) if up else math.floor(value * scale)) / scale:.10g}"


def _gflops(macs: int) -> str:
    return f"{macs / 1e9:.4g} GFLOPs (multiply-adds)"


def _all_ends(geometry: BackboneGeometry, space: SearchSpace) -> list[tuple[int, int]]:
    """Least and greatest cost for every number of steps and every scorer of a space that exists."""
    return [
        end
        for num in range(space.min_predictors, min(space.max_predictors, len(space.blocks)) + 1)
        for scorer in space.scorers
        if (end := _ends(geometry, space=space, num=num, scorer=scorer)) is not None
    ]


def _ends(geometry: BackboneGeometry, space: SearchSpace, *, num: int, scorer: Scorer) -> tuple[int, int] | None:
    """Least and greatest cost over all placements of `num` steps; None if no such schedule exists.

    At the smallest (largest) counts every slot's count is fixed, so a placement's cost is a sum over slots and the
    best placement follows slot by slot.
    """
    found = []
    probe = _Ladder(geometry, min_keep_ratio=space.min_keep_ratio, blocks=space.blocks[:num], scorer=scorer)
    if not probe.exists:
        return None
    for counts, best in ((probe.lowest, min), (probe.highest, max)):
        alive = [probe.num_tokens, *counts]
        block_macs = [probe.block(count) for count in alive]
        # cost so far if slot i sits at place p, blocks before it included
        reach = [block * block_macs[0] for block in space.blocks]
        for slot in range(1, num):
            reach = [
                best(
                    (
                        reach[before] + (space.blocks[place] - space.blocks[before]) * block_macs[slot]
                        for before in range(slot - 1, place)
                    ),
                    default=0,
                )
                for place in range(len(space.blocks))
            ]
        scored = sum(alive[:-1]) * probe.per_scored
        ends = [reach[p] + (probe.depth - space.blocks[p]) * block_macs[num] for p in range(num - 1, len(reach))]
        found.append(best(ends) + scored + probe.fixed)
    return found[0], found[1]


class _Ladder:
    """Strictly falling token counts at fixed blocks, and what they cost."""

    def __init__(
        self, geometry: BackboneGeometry, *, min_keep_ratio: float, blocks: Sequence[int], scorer: Scorer
    ) -> None:
        self._stage: StageGeometry = isotropic_stage(geometry)
        self._blocks, self._scorer = tuple(blocks), scorer
        self.depth, self.num_tokens = self._stage.depth, self._stage.num_tokens
        self.fixed = geometry.stem_macs + geometry.head_macs
        self.per_scored = scorer_macs(scorer, dim=self._stage.dim)
        self.per_left = geometry.head_token_macs
        floor, num = num_kept(self.num_tokens, min_keep_ratio), len(self._blocks)
        self.lowest = [floor + num - 1 - slot for slot in range(num)]
        self.highest = [self.num_tokens - 1 - slot for slot in range(num)]
        self.exists = self.lowest[0] <= self.highest[0]
        self._lengths = [b - a for a, b in zip((0, *self._blocks), (*self._blocks, self.depth), strict=True)]

    def block(self, count: int) -> int:
        """Multiply-adds of one block over `count` patch tokens and the prefix tokens."""
        tokens = count + self._stage.num_prefix_tokens
        return attention_macs(self._stage, tokens) + tokens * self._stage.mlp_macs

    def cost(self, counts: Sequence[int]) -> int:
        """Multiply-adds of the whole model."""
        alive = [self.num_tokens, *counts]
        blocks = sum(length * self.block(count) for length, count in zip(self._lengths, alive, strict=True))
        return self.fixed + blocks + self.per_scored * sum(alive[:-1]) + self.per_left * alive[-1]

    def counts(self, keep_ratios: Sequence[float]) -> list[int]:
        """Counts of non-rising keep ratios, made to fall strictly and to respect both limits."""
        found: list[int] = []
        for slot, ratio in enumerate(keep_ratios):
            count = min(max(num_kept(self.num_tokens, ratio), self.lowest[slot]), self.highest[slot])
            found.append(min(count, found[-1] - 1) if found else count)
        return found

    def fill(self, counts: Sequence[int], *, budget_macs: int) -> list[int]:
        """Add single tokens, the dearest that fits first, until none fits any more."""
        counts = list(counts)
        left = budget_macs - self.cost(counts)
        while True:
            best, price = -1, 0
            for slot, count in enumerate(counts):
                ceiling = counts[slot - 1] - 1 if slot else self.num_tokens - 1
                if count >= ceiling:
                    continue
                added = self._lengths[slot + 1] * (self.block(count + 1) - self.block(count))
                added += self.per_scored if slot + 1 < len(counts) else self.per_left
                if price < added <= left:
                    best, price = slot, added
            if best < 0:
                return counts
            counts[best] += 1
            left -= price

    def schedule(self, counts: Sequence[int]) -> Schedule:
        """The schedule with these counts, in canonical form."""
        steps = [
            Step(block=block, keep_ratio=count / self.num_tokens, scorer=self._scorer)
            for block, count in zip(self._blocks, counts, strict=True)
        ]
        return Schedule(steps=tuple(steps))

"""A synthetic landscape on which searches are compared; it was fixed before any sampler was tuned on it.

It has up to three pruning steps in DeiT-S with exact multiply-adds, a scorer without cost, and a smooth accuracy: the
loss of a step increases with the fraction of tokens that it drops, is higher early in the network, and higher for one
large step than for several small ones. It does not predict real accuracies. Its difficulty is that of an older
landscape of the same kind, measured with stock tools (fraction of the attainable hypervolume after 200 evaluations:
uniform random 0.78, NSGA-II with a population of 20 0.87, TPE 0.91, the hand-crafted baseline at blocks 3, 6, 9 0.47);
the constants were chosen to reproduce these values, and must not be changed.

python benchmarks/stand_in.py

recomputes the attainable hypervolume by enumeration, in two minutes on one core.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
from instant import DEIT_SMALL
from numpy.typing import NDArray
from price_many import price_many

from sparsesearch.analysis.pareto import hypervolume
from sparsesearch.schedule import Schedule, num_kept
from sparsesearch.schedule.methods import NormScorer
from sparsesearch.space.definition import SearchSpace

GEOMETRY = DEIT_SMALL
LIMIT_MACS = 3_000_000_000
REFERENCE = (74.0, float(LIMIT_MACS))
RATIOS = tuple(round(0.05 * i, 2) for i in range(6, 21))  # fraction of its input tokens that a step keeps
BLOCKS = tuple(range(1, 12))
NUM_STEPS = 3
SPACE = SearchSpace(blocks=BLOCKS, max_predictors=NUM_STEPS, scorers=(NormScorer(),))

DENSE = 79.8  # accuracy in percent of a schedule that drops nothing
EARLY = 5.0  # points lost by a small drop before block 0, per factor e
DEPTH = 4.0  # blocks over which this loss decreases by a factor e
BIG = 1.7  # additional points lost by a drop by a factor e at any block; quadratic in the log-ratio

REACHABLE_ON_GRID = 3.5917  # accuracy x 10^9 multiply-adds: every choice of RATIOS and BLOCKS
REACHABLE = 3.6313  # the same: every count of tokens at every choice of at most NUM_STEPS blocks


def accuracy(schedule: Schedule) -> float:
    """Synthetic accuracy of a schedule in percent; several steps before one block count as one."""
    alive, loss = GEOMETRY.stages[0].num_tokens, 0.0
    for block, steps in itertools.groupby(schedule.resolve(GEOMETRY), key=lambda step: step.block):
        left = list(steps)[-1].num_tokens
        drop = math.log(alive / left)
        loss += EARLY * math.exp(-block / DEPTH) * drop + BIG * drop**2
        alive = left
    return DENSE - loss


def accuracies(blocks: NDArray[np.int64], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """`accuracy` of many schedules: rows of non-decreasing blocks and of non-increasing token counts."""
    left = counts.copy()
    for step in range(counts.shape[1] - 2, -1, -1):
        left[:, step] = np.where(blocks[:, step] == blocks[:, step + 1], left[:, step + 1], left[:, step])
    alive = np.concatenate([np.full((len(left), 1), GEOMETRY.stages[0].num_tokens), left], axis=1)
    drops = np.log(alive[:, :-1] / alive[:, 1:])
    loss: NDArray[np.float64] = (EARLY * np.exp(-blocks / DEPTH) * drops + BIG * drops**2).sum(axis=1)
    return DENSE - loss


def schedule_of(ratios: tuple[float, ...], blocks: tuple[int, ...]) -> Schedule:
    """The schedule of one point of the grid: relative keep ratios, and blocks in any order."""
    keep = [math.prod(ratios[: step + 1]) for step in range(len(ratios))]
    return Schedule.model_validate(
        {
            "steps": [
                {"block": block, "keep_ratio": ratio, "scorer": {"kind": "norm"}}
                for block, ratio in zip(sorted(blocks), keep, strict=True)
            ]
        }
    )


def handcrafted_baseline() -> list[Schedule]:
    """Equal ratios before blocks 3, 6, 9, from one half up to the limit."""
    return [schedule_of((ratio,) * NUM_STEPS, (3, 6, 9)) for ratio in (0.5, 0.55, 0.6, 0.65, 0.7)]


def attainable(counts: NDArray[np.int64], choices: list[tuple[int, ...]]) -> float:
    """Hypervolume of all rows of counts at all choices of blocks, in accuracy x 10^9 multiply-adds."""
    points: list[tuple[float, float]] = []
    for choice in choices:
        blocks = np.broadcast_to(np.array(choice, dtype=np.int64), counts.shape)
        macs = price_many(GEOMETRY, blocks=blocks, counts=counts, scorer=NormScorer())
        top1 = accuracies(blocks, counts)
        able = np.flatnonzero((macs <= LIMIT_MACS) & (top1 > REFERENCE[0]))
        order = able[np.lexsort((-top1[able], macs[able]))]
        best = np.maximum.accumulate(top1[order])
        front = order[np.concatenate([[True], best[1:] > best[:-1]])] if len(order) else order
        points += [(float(top1[i]), float(macs[i])) for i in front]
    return hypervolume(points, reference=REFERENCE) / 1e9


def grid_counts() -> NDArray[np.int64]:
    """Token counts after each step, for every choice of ratios."""
    num_tokens = GEOMETRY.stages[0].num_tokens
    return np.array(
        [
            [num_kept(num_tokens, math.prod(ratios[: step + 1])) for step in range(NUM_STEPS)]
            for ratios in itertools.product(RATIOS, repeat=NUM_STEPS)
        ]
    )


def all_counts() -> NDArray[np.int64]:
    """All non-increasing rows of counts; steps that drop nothing represent schedules with fewer steps."""
    num_tokens = GEOMETRY.stages[0].num_tokens
    rows = itertools.combinations_with_replacement(range(num_tokens, 3, -1), NUM_STEPS)
    return np.fromiter(itertools.chain.from_iterable(rows), dtype=np.int64).reshape(-1, NUM_STEPS)


if __name__ == "__main__":
    placed = list(itertools.combinations_with_replacement(BLOCKS, NUM_STEPS))
    print(f"on the grid of ratios     {attainable(grid_counts(), placed):.4f}")
    distinct = list(itertools.combinations(BLOCKS, NUM_STEPS))
    print(f"with every count          {attainable(all_counts(), distinct):.4f}")

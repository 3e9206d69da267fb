"""How fast schedules are priced and proposals made; run it on a quiet machine, with one thread.

python benchmarks/cost_and_proposals.py
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import get_args

import numpy as np
from instant import DEIT_SMALL

from sparsesearch.cost.analytic import AnalyticCost, price_many
from sparsesearch.methods import DynamicVitScorer
from sparsesearch.schedule import Schedule
from sparsesearch.search.optuna_search import OptunaProposer, SamplerName
from sparsesearch.search.proposals import fit_to_budget
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.sampling import draw_shape
from sparsesearch.trial import Fidelity, Measurement, Origin, Proposal, Trial, TrialState

BUDGET = 3_000_000_000
SPACE = SearchSpace(max_predictors=4)


def seconds(call: Callable[[], object], *, repeats: int) -> tuple[float, float]:
    """Median and minimum of the seconds a call takes."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), min(times)


def random_schedules(num: int) -> list[Schedule]:
    """Schedules that fill the budget."""
    rng = np.random.default_rng(0)
    space = SPACE.for_geometry(DEIT_SMALL)
    found: list[Schedule] = []
    while len(found) < num:
        schedule = fit_to_budget(DEIT_SMALL, space, shape=draw_shape(space, rng=rng), limit=BUDGET)
        if schedule is not None:
            found.append(schedule)
    return found


def told(number: int, schedule: Schedule, *, proposal: Proposal | None, top1: float) -> Trial:
    """A finished trial with a made-up accuracy."""
    measurement = Measurement(
        step=0, attempt=1, fidelity=Fidelity.SUPERNET, metrics={"val_top1": top1}, seconds=0.0, seed=0
    )
    return Trial(
        number=number,
        fidelity=Fidelity.SUPERNET,
        origin=Origin.SEARCH,
        label="search",
        schedule=schedule,
        key=schedule.key(DEIT_SMALL),
        cost=AnalyticCost().estimate(DEIT_SMALL, schedule),
        seed=0,
        proposal=proposal,
        budget_macs=BUDGET,
        study="benchmark",
        state=TrialState.COMPLETE,
        attempt=1,
        measurements=(measurement,),
    )


def report_costs() -> None:
    """Schedules priced a second, one by one and at once."""
    schedules = random_schedules(1000)
    cost = AnalyticCost()
    median, least = seconds(lambda: [cost.estimate(DEIT_SMALL, s) for s in schedules], repeats=9)
    print(f"scalar price         {1000 / median:12,.0f} /s  (best {1000 / least:,.0f})")
    rng = np.random.default_rng(0)
    blocks = np.sort(rng.integers(1, 12, size=(100_000, 4)), axis=1)
    counts = -np.sort(-rng.integers(1, 197, size=(100_000, 4)), axis=1)
    median, least = seconds(
        lambda: price_many(DEIT_SMALL, blocks=blocks, counts=counts, scorer=DynamicVitScorer()), repeats=9
    )
    print(f"vectorised price     {100_000 / median:12,.0f} /s  (best {100_000 / least:,.0f})")


def report_proposals() -> None:
    """Shapes fitted to the budget a second, and the gap they leave."""
    rng = np.random.default_rng(0)
    space = SPACE.for_geometry(DEIT_SMALL)
    shapes = [draw_shape(space, rng=rng, latest_first=4) for _ in range(500)]
    fits = [fit_to_budget(DEIT_SMALL, space, shape=shape, limit=BUDGET) for shape in shapes]
    gaps = [1.0 - AnalyticCost().estimate(DEIT_SMALL, fit).macs / BUDGET for fit in fits if fit is not None]
    median, least = seconds(
        lambda: [fit_to_budget(DEIT_SMALL, space, shape=shape, limit=BUDGET) for shape in shapes], repeats=5
    )
    print(f"fit to budget        {500 / median:12,.0f} /s  (best {500 / least:,.0f})")
    print(
        f"  feasible {len(gaps) / 5:.1f}%; gap below the budget: median {statistics.median(gaps):.3%}, "
        f"mean {statistics.mean(gaps):.3%}, largest {max(gaps):.3%}"
    )


def report_samplers(*, pending: int) -> None:
    """Milliseconds of a propose with its tell at 100 and 1000 told trials.

    Args:
        pending: Proposals under way at any time besides the one that is measured.
    """
    schedules = list({s.key(DEIT_SMALL): s for s in random_schedules(1200)}.values())
    for name in get_args(SamplerName):
        for num in (100, 1000):
            rng = np.random.default_rng(0)
            proposer = OptunaProposer(DEIT_SMALL, SPACE, low_macs=None, high_macs=BUDGET, sampler=name, seed=0)
            for number, schedule in enumerate(schedules[:num]):
                proposer.tell(told(number, schedule, proposal=None, top1=0.7 + 0.1 * float(rng.random())))
            under_way = [proposer.propose(index) for index in range(pending)]
            assert all(under_way)
            times = []
            for index in range(pending, pending + 25):
                start = time.perf_counter()
                proposed = proposer.propose(index)
                assert proposed is not None
                under_way.append(proposed)
                done = under_way.pop(0)
                assert done is not None
                trial = told(num + index, done[0], proposal=done[1], top1=0.75)
                proposer.tell(trial)
                times.append(1e3 * (time.perf_counter() - start))
            print(
                f"{name:7s} propose + tell, {num:5d} told, {pending} pending: median {statistics.median(times):7.2f} "
                f"ms, least {min(times):7.2f}, largest {max(times):7.2f}"
            )


if __name__ == "__main__":
    report_costs()
    report_proposals()
    report_samplers(pending=0)
    report_samplers(pending=4)

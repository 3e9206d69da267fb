"""Speed of pricing schedules and of making proposals; run it on an idle machine, with one thread.

python benchmarks/cost_and_proposals.py
python benchmarks/cost_and_proposals.py feasible    100,000 samples over all families, takes some minutes
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, get_args

import numpy as np
from instant import DEIT_SMALL
from price_many import price_many

from sparsesearch.backbones.registry import backbone_geometry
from sparsesearch.budget.solve import feasible_intervals, fit_to_budget
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.methods import DynamicVitScorer
from sparsesearch.search.samplers.factory import make_proposer
from sparsesearch.space.definition import SearchSpace, load_space
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.sampling import draw_shape
from sparsesearch.space.shape import Shape
from sparsesearch.study.spec import SamplerName
from sparsesearch.study.trial import Fidelity, Measurement, Origin, Proposal, Trial, TrialState

BUDGET = 3_000_000_000
SPACE = SearchSpace(max_predictors=4).resolve(DEIT_SMALL)
NUM = 500
FAMILIES = [
    ("deit_small", "deit_small"),
    ("deit_small", "isotropic_full"),
    ("deit_pico", "deit_pico_full"),
    ("lvvit_s", "lvvit"),
    ("convnext_tiny", "convnext"),
    ("convnext_tiny", "convnext_full"),
    ("swin_tiny_patch4_window7_224", "swin"),
    ("swin_tiny_patch4_window7_224", "swin_full"),
]


def seconds(call: Callable[[], object], *, repeats: int) -> tuple[float, float]:
    """Median and minimum of the seconds a call takes."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times), min(times)


def random_schedules(num: int) -> list[Schedule]:
    """Random schedules that are maximal under the budget."""
    rng = np.random.default_rng(0)
    found: list[Schedule] = []
    while len(found) < num:
        schedule = fit_to_budget(DEIT_SMALL, SPACE, shape=draw_shape(SPACE, rng=rng), limit=BUDGET)
        if schedule is not None:
            found.append(schedule)
    return found


def finished_trial(number: int, schedule: Schedule, *, proposal: Proposal | None, top1: float) -> Trial:
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
    """Schedules priced per second, one by one and vectorised."""
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
    """Shapes fitted to the budget per second, and the gap to the budget."""
    rng = np.random.default_rng(0)
    shapes = [draw_shape(SPACE, rng=rng, latest_first=4) for _ in range(500)]
    fits = [fit_to_budget(DEIT_SMALL, SPACE, shape=shape, limit=BUDGET) for shape in shapes]
    gaps = [1.0 - AnalyticCost().estimate(DEIT_SMALL, fit).macs / BUDGET for fit in fits if fit is not None]
    median, least = seconds(
        lambda: [fit_to_budget(DEIT_SMALL, SPACE, shape=shape, limit=BUDGET) for shape in shapes], repeats=5
    )
    print(f"fit to budget        {500 / median:12,.0f} /s  (best {500 / least:,.0f})")
    print(
        f"  feasible {len(gaps) / 5:.1f}%; gap below the budget: median {statistics.median(gaps):.3%}, "
        f"mean {statistics.mean(gaps):.3%}, largest {max(gaps):.3%}"
    )


def report_families() -> None:
    """Shapes sampled and fitted per second in the space of every family, and the time to find its feasible range."""
    for backbone, name in FAMILIES:
        geometry = backbone_geometry(backbone)
        space = load_space(name).resolve(geometry)
        start = time.perf_counter()
        low, high = feasible_intervals(geometry, space)[0]
        first = time.perf_counter() - start
        rng = np.random.default_rng(0)
        limits = [low + fraction * (0.98 * high - low) for fraction in rng.random(NUM)]

        def draw_all(s: ResolvedSpace = space, r: np.random.Generator = rng) -> list[Shape]:
            return [draw_shape(s, rng=r) for _ in range(NUM)]

        draw_median, draw_least = seconds(draw_all, repeats=5)
        pairs = list(zip([draw_shape(space, rng=rng) for _ in range(NUM)], limits, strict=True))

        def fit_all(g: BackboneGeometry = geometry, s: ResolvedSpace = space, p: list[Any] = pairs) -> list[Schedule]:
            return [fit for shape, limit in p if (fit := fit_to_budget(g, s, shape=shape, limit=limit)) is not None]

        median, least = seconds(fit_all, repeats=5)
        price = AnalyticCost().estimate
        fits = [(fit_to_budget(geometry, space, shape=shape, limit=limit), limit) for shape, limit in pairs]
        gaps = [1.0 - price(geometry, fit).macs / limit for fit, limit in fits if fit is not None]
        print(
            f"{backbone:13.13s} {name:15s} draw {NUM / draw_median:7,.0f} /s (best {NUM / draw_least:7,.0f}), fit "
            f"{NUM / median:7,.0f} /s (best {NUM / least:7,.0f}); gap median {statistics.median(gaps):.3%}, largest "
            f"{max(gaps):.3%}; feasible range in {first:.2f} s"
        )


def report_feasible(num: int) -> None:
    """Fraction of random shapes that can meet a random budget of the feasible range.

    Args:
        num: Total number of shapes.
    """
    for backbone, name in FAMILIES:
        geometry = backbone_geometry(backbone)
        space = load_space(name).resolve(geometry)
        low, high = feasible_intervals(geometry, space)[0]
        rng = np.random.default_rng(1)
        met = 0
        count = num // len(FAMILIES)
        for _ in range(count):
            limit = float(low + rng.random() * (high - low))
            shape = draw_shape(space, rng=rng)
            met += fit_to_budget(geometry, space, shape=shape, limit=limit) is not None
        print(f"{backbone:13.13s} {name:15s} {met / count:.1%} of {count} shapes can meet their budget")


def report_samplers(*, pending: int) -> None:
    """Milliseconds of `propose` and `tell` after 100, 1000 and 5000 finished trials, for a budget and for a range.

    Optuna's `gp` is excluded: it takes a second after 100 trials. CPU time is an upper bound for an idle machine.

    Args:
        pending: Number of other proposals in progress at any time.
    """
    schedules = list({s.key(DEIT_SMALL): s for s in random_schedules(5200)}.values())
    for name, low, num in itertools.product(get_args(SamplerName), (None, BUDGET // 2), (100, 1000, 5000)):
        if name == "gp":
            continue
        rng = np.random.default_rng(0)
        proposer = make_proposer(name, DEIT_SMALL, SPACE, low=low, high=BUDGET, seed=0)
        for number, schedule in enumerate(schedules[:num]):
            proposer.tell(finished_trial(number, schedule, proposal=None, top1=0.7 + 0.1 * float(rng.random())))
        in_progress = [proposer.propose(index) for index in range(pending)]
        assert all(in_progress)
        times, cpu = [], []
        for index in range(pending, pending + 40):
            start, cpu_start = time.perf_counter(), time.process_time()
            proposed = proposer.propose(index)
            seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu_start
            assert proposed is not None
            in_progress.append(proposed)
            done = in_progress.pop(0)
            assert done is not None
            trial = finished_trial(num + index, done[0], proposal=done[1], top1=0.75)
            start, cpu_start = time.perf_counter(), time.process_time()
            proposer.tell(trial)
            times.append(1e3 * (time.perf_counter() - start + seconds))
            cpu.append(1e3 * (time.process_time() - cpu_start + cpu_seconds))
        what = "a budget" if low is None else "a range"
        print(
            f"{name:9s} propose + tell, {what:8s}, {num:5d} finished, {pending} pending: median "
            f"{statistics.median(times):7.2f} ms, minimum {min(times):7.2f}, maximum {max(times):7.2f}; "
            f"CPU median {statistics.median(cpu):7.2f}",
            flush=True,
        )


if __name__ == "__main__":
    if sys.argv[1:] == ["feasible"]:
        report_feasible(100_000)
        sys.exit()
    report_costs()
    report_proposals()
    report_families()
    report_samplers(pending=0)
    report_samplers(pending=4)

"""How much of what is reachable a search finds in so many evaluations.

python benchmarks/search_quality.py --methods stock --seeds 10

Stock methods are Optuna's samplers used as their documentation says: three keep ratios and three blocks as plain
parameters, two objectives, and the limit as a constraint.
"""

from __future__ import annotations

import argparse
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import optuna
import stand_in
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule
from sparsesearch.search.pareto import Point, hypervolume

MARKS = (30, 80, 100, 200, 300)


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one search evaluated, in order: accuracy and multiply-adds of each, within the limit or not."""

    points: tuple[Point, ...]
    num_feasible: int
    num_repeats: int
    seconds: float


def stock(make: Callable[[int], BaseSampler], *, evaluations: int, seed: int) -> Run:
    """A sampler of Optuna's on plain parameters, the limit as a constraint."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=make(seed))
    points: list[Point] = []
    keys: set[str] = set()
    start = time.perf_counter()
    for _ in range(evaluations):
        trial = study.ask()
        ratios = tuple(trial.suggest_float(f"ratio_{i}", 0.3, 1.0, step=0.05) for i in range(stand_in.NUM_STEPS))
        blocks = tuple(
            trial.suggest_int(f"block_{i}", min(stand_in.BLOCKS), max(stand_in.BLOCKS))
            for i in range(stand_in.NUM_STEPS)
        )
        schedule = stand_in.schedule_of(ratios, blocks)
        point = evaluate(schedule)
        trial.set_constraint("macs", point[1] - stand_in.LIMIT_MACS)
        study.tell(trial, list(point))
        points.append(point)
        keys.add(schedule.key(stand_in.GEOMETRY))
    return Run(
        points=tuple(points),
        num_feasible=sum(macs <= stand_in.LIMIT_MACS for _, macs in points),
        num_repeats=evaluations - len(keys),
        seconds=time.perf_counter() - start,
    )


def evaluate(schedule: Schedule) -> Point:
    """Accuracy in percent and multiply-adds."""
    return stand_in.accuracy(schedule), float(AnalyticCost().estimate(stand_in.GEOMETRY, schedule).macs)


STOCK: dict[str, Callable[[int], BaseSampler]] = {
    "stock random": lambda seed: RandomSampler(seed=seed),
    "stock nsga2, population 50": lambda seed: NSGAIISampler(seed=seed, population_size=50),
    "stock nsga2, population 20": lambda seed: NSGAIISampler(seed=seed, population_size=20),
    "stock tpe": lambda seed: TPESampler(seed=seed),
    "stock gp": lambda seed: GPSampler(seed=seed),
}


def share(points: Sequence[Point], *, evaluations: int) -> float:
    """Hypervolume of the first evaluations within the limit, as a share of what is reachable on the grid."""
    able = [point for point in points[:evaluations] if point[1] <= stand_in.LIMIT_MACS]
    return hypervolume(able, reference=stand_in.REFERENCE) / 1e9 / stand_in.REACHABLE_ON_GRID


def row(name: str, runs: Sequence[Run], *, evaluations: int) -> str:
    """One line of the table: mean and standard deviation over seeds at each mark."""
    cells = []
    for mark in MARKS:
        found = [share(run.points, evaluations=mark) for run in runs]
        spread = statistics.stdev(found) if len(found) > 1 else math.nan
        cells.append(f"{statistics.mean(found):.3f} +- {spread:.3f}" if mark <= evaluations else "-")
    total = evaluations * len(runs)
    feasible = sum(run.num_feasible for run in runs) / total
    repeats = sum(run.num_repeats for run in runs) / total
    seconds = statistics.mean(run.seconds for run in runs)
    return f"| {name} | {' | '.join(cells)} | {feasible:.3f} | {repeats:.3f} | {len(runs)} | {seconds:.1f} |"


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="stock", help="names with commas; stock means all of Optuna's but gp")
    parser.add_argument("--evaluations", type=int, default=200)
    parser.add_argument("--seeds", type=int, default=10)
    arguments = parser.parse_args()
    names = [name for name in STOCK if name != "stock gp"]
    if arguments.methods != "stock":
        names = arguments.methods.split(",")
    print(f"| method | {' | '.join(str(mark) for mark in MARKS)} | feasible | repeats | seeds | s a run |")
    print("|---|" + "---|" * (len(MARKS) + 4))
    hand = [evaluate(schedule) for schedule in stand_in.hand_family()]
    print(f"| hand family, {len(hand)} points | {share(hand, evaluations=len(hand)):.3f} |")
    for name in names:
        runs = [stock(STOCK[name], evaluations=arguments.evaluations, seed=seed) for seed in range(arguments.seeds)]
        print(row(name, runs, evaluations=arguments.evaluations), flush=True)


if __name__ == "__main__":
    main()

"""How much of what is reachable a search finds in so many evaluations.

python benchmarks/search_quality.py
python benchmarks/search_quality.py --landscape stand-in --methods evolution,tpe --seeds 20 --out FOLDER

Stock methods are Optuna's samplers used as their documentation says: three keep ratios and three blocks as plain
parameters, two objectives, and the limit as a constraint. The other methods are the samplers of `sparsesearch run`,
which propose only schedules that use a budget up, over the range of budgets of the landscape.

Values are shares of the reachable hypervolume: everything that was evaluated and is within the limit, against the best
that any schedule can do.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import optuna
import stand_in
from landscapes import Landscape, open_landscape
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule
from sparsesearch.search.pareto import Point, hypervolume
from sparsesearch.search.samplers import make_proposer
from sparsesearch.spec import SamplerName
from sparsesearch.trial import Fidelity, Measurement, Origin, Proposal, Trial, TrialState

MARKS = (30, 80, 100, 200, 300)
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
SLOW = ("stock gp", "gp")  # seconds an ask: fewer seeds and evaluations by default


@dataclass(frozen=True, kw_only=True)
class Run:
    """What one search evaluated, in order: accuracy and multiply-adds of each, within the limit or not."""

    points: tuple[Point, ...]
    num_repeats: int
    seconds: float


STOCK: dict[str, Callable[[int], BaseSampler]] = {
    "stock random": lambda seed: RandomSampler(seed=seed),
    "stock nsga2, population 50": lambda seed: NSGAIISampler(seed=seed, population_size=50),
    "stock nsga2, population 20": lambda seed: NSGAIISampler(seed=seed, population_size=20),
    "stock tpe": lambda seed: TPESampler(seed=seed),
    "stock gp": lambda seed: GPSampler(seed=seed),
}


def stock(make: Callable[[int], BaseSampler], *, evaluations: int, seed: int) -> Run:
    """A sampler of Optuna's on plain parameters of the stand-in, the limit as a constraint."""
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
        macs = AnalyticCost().estimate(stand_in.GEOMETRY, schedule).macs
        point = (stand_in.accuracy(schedule), float(macs))
        trial.set_constraint("macs", macs - stand_in.LIMIT_MACS)
        study.tell(trial, list(point))
        points.append(point)
        keys.add(schedule.key(stand_in.GEOMETRY))
    seconds = time.perf_counter() - start
    return Run(points=tuple(points), num_repeats=evaluations - len(keys), seconds=seconds)


def search(sampler: SamplerName, landscape: Landscape, *, evaluations: int, seed: int) -> Run:
    """A sampler as `sparsesearch run` uses it; seconds without those of evaluations."""
    proposer = make_proposer(
        sampler, landscape.geometry, landscape.space, low=landscape.low, high=landscape.high, seed=seed
    )
    points: list[Point] = []
    keys: set[str] = set()
    seconds = 0.0
    for index in range(evaluations):
        start = time.perf_counter()
        proposed = proposer.propose(index)
        seconds += time.perf_counter() - start
        if proposed is None:
            break
        schedule, proposal = proposed
        trial = told(landscape, index, schedule, proposal)
        start = time.perf_counter()
        proposer.tell(trial)
        seconds += time.perf_counter() - start
        points.append((100.0 * trial.metrics["val_top1"], float(trial.cost.macs)))
        keys.add(trial.key)
    return Run(points=tuple(points), num_repeats=len(points) - len(keys), seconds=seconds)


def told(landscape: Landscape, number: int, schedule: Schedule, proposal: Proposal | None) -> Trial:
    """The finished trial of a schedule."""
    metrics = {"val_top1": landscape.accuracy(schedule) / 100.0}
    measurement = Measurement(step=0, attempt=1, fidelity=Fidelity.SUPERNET, metrics=metrics, seconds=0.0, seed=0)
    return Trial(
        number=number,
        fidelity=Fidelity.SUPERNET,
        origin=Origin.SEARCH,
        label="search",
        schedule=schedule,
        key=schedule.key(landscape.geometry),
        cost=AnalyticCost().estimate(landscape.geometry, schedule),
        seed=0,
        proposal=proposal,
        study="benchmark",
        state=TrialState.COMPLETE,
        attempt=1,
        measurements=(measurement,),
    )


def share(points: Sequence[Point], landscape: Landscape, *, evaluations: int) -> float:
    """Hypervolume of the first evaluations within the limit, as a share of what is reachable."""
    able = [point for point in points[:evaluations] if point[1] <= landscape.high]
    reference = (landscape.reference_top1, float(landscape.high))
    return hypervolume(able, reference=reference) / landscape.reachable


def run_method(name: str, landscape: Landscape, *, evaluations: int, seed: int) -> Run:
    """One search by name."""
    if name in STOCK:
        return stock(STOCK[name], evaluations=evaluations, seed=seed)
    return search(SAMPLERS[SAMPLERS.index(name)], landscape, evaluations=evaluations, seed=seed)  # type: ignore[arg-type]


def row(name: str, runs: Sequence[Run], landscape: Landscape, *, evaluations: int) -> str:
    """One line of the table: mean and standard deviation over seeds at each mark."""
    cells = []
    for mark in MARKS:
        found = [share(run.points, landscape, evaluations=mark) for run in runs]
        spread = statistics.stdev(found) if len(found) > 1 else math.nan
        cells.append(f"{statistics.mean(found):.3f} +- {spread:.3f}" if mark <= evaluations else "")
    points = [point for run in runs for point in run.points]
    feasible = sum(macs <= landscape.high for _, macs in points) / len(points)
    repeats = sum(run.num_repeats for run in runs) / len(points)
    ask_ms = 1e3 * sum(run.seconds for run in runs) / len(points)
    return f"| {name} | {' | '.join(cells)} | {feasible:.3f} | {repeats:.3f} | {len(runs)} | {ask_ms:.1f} |"


def curve(runs: Sequence[Run], landscape: Landscape, *, evaluations: int) -> list[float]:
    """Mean share after each number of evaluations."""
    return [
        statistics.mean(share(run.points, landscape, evaluations=count) for run in runs)
        for count in range(1, evaluations + 1)
    ]


def draw(curves: dict[str, list[float]], landscape: Landscape, path: Path) -> None:
    """Curves of all methods as a picture."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.0, 5.0), layout="constrained")
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, label=name, linestyle="--" if name in STOCK else "-")
    axes.set(xlabel="evaluations", ylabel="share of the reachable hypervolume", title=landscape.name, ylim=(0.3, 1.0))
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Run what was asked for and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--landscape", default="stand-in", help="stand-in, supernet[:FOLDER] or the path of a table")
    parser.add_argument("--methods", help="names with commas; all but the slow ones if left out")
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="folder for the results as JSON and a picture")
    arguments = parser.parse_args()
    landscape = open_landscape(arguments.landscape)
    able = [*(STOCK if landscape.is_stand_in else ()), *SAMPLERS]
    names = [name for name in able if name not in SLOW]
    if arguments.methods:
        names = [name.strip() for name in arguments.methods.split(",")]
    unknown = [name for name in names if name not in able]
    if unknown:
        parser.error(f"no method {unknown[0]!r} on this landscape; there are: {', '.join(able)}")
    print(f"{landscape.name}: {landscape.describe()}\n")
    print(f"| method | {' | '.join(str(mark) for mark in MARKS)} | feasible | repeats | seeds | ms an ask and tell |")
    print("|---|" + "---|" * (len(MARKS) + 4))
    hand = [
        (landscape.accuracy(schedule), float(AnalyticCost().estimate(landscape.geometry, schedule).macs))
        for schedule in landscape.hand_family()
    ]
    print(f"| hand family, {len(hand)} points | {share(hand, landscape, evaluations=len(hand)):.3f} |")
    runs: dict[str, list[Run]] = {}
    for name in names:
        seeds = range(arguments.first_seed, arguments.first_seed + arguments.seeds)
        runs[name] = [run_method(name, landscape, evaluations=arguments.evaluations, seed=seed) for seed in seeds]
        print(row(name, runs[name], landscape, evaluations=arguments.evaluations), flush=True)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        curves = {name: curve(found, landscape, evaluations=arguments.evaluations) for name, found in runs.items()}
        document = {
            "landscape": landscape.name,
            "reachable": landscape.reachable,
            "hand": hand,
            "curves": {name: [round(value, 4) for value in values] for name, values in curves.items()},
            "points": {name: [run.points for run in found] for name, found in runs.items()},
        }
        (arguments.out / "search_quality.json").write_text(json.dumps(document), encoding="utf-8")
        draw(curves, landscape, arguments.out / "search_quality.png")


if __name__ == "__main__":
    main()

"""Fraction of the attainable hypervolume that a search finds, by number of evaluations.

python benchmarks/search_quality.py
python benchmarks/search_quality.py --landscape stand-in --methods "evolution;tpe" --seeds 20 --out FOLDER

Stock methods are Optuna's samplers used as in their documentation: three keep ratios and three blocks as plain
parameters, two objectives, and the limit as a constraint. The other methods are the samplers of `sparsesearch run`,
which only propose schedules that are maximal under a budget, over the range of budgets of the landscape.

Values are fractions of the attainable hypervolume: all evaluated schedules within the limit, relative to the best that
is possible.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import get_args

import optuna
import stand_in
from landscapes import Landscape, open_landscape, shifted
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from sparsesearch.analysis.pareto import Point, hypervolume
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.schedule import Schedule
from sparsesearch.search.samplers.factory import make_proposer
from sparsesearch.search.samplers.priors import make_priors
from sparsesearch.study.prior import Prior
from sparsesearch.study.spec import SamplerName
from sparsesearch.study.trial import Fidelity, Measurement, Origin, Proposal, Trial, TrialState

MARKS = (30, 60, 80, 100, 200, 300)
SAMPLERS: tuple[SamplerName, ...] = get_args(SamplerName)
WARM, WARM_EVALUATIONS = "evolution, warm start", 100
SLOW = ("stock gp", "gp")  # about a second per ask: only on request, and with fewer seeds and evaluations
SEEDS, SEEDS_OF_OURS, SEEDS_OF_SLOW, MOST_OF_SLOW = 10, 20, 3, 100


@dataclass(frozen=True, kw_only=True)
class Run:
    """The evaluations of one search in order: accuracy and multiply-adds, including those above the limit."""

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
    """Run a sampler of Optuna on plain parameters of the stand-in, with the limit as a constraint."""
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


def search(
    sampler: SamplerName, landscape: Landscape, *, evaluations: int, seed: int, priors: Sequence[Prior] = ()
) -> tuple[Run, list[Trial]]:
    """Run a sampler like `sparsesearch run`; the seconds do not include evaluations."""
    proposer = make_proposer(
        sampler, landscape.geometry, landscape.space, low=landscape.low, high=landscape.high, seed=seed, priors=priors
    )
    points: list[Point] = []
    trials: list[Trial] = []
    seconds = 0.0
    for index in range(evaluations):
        start = time.perf_counter()
        proposed = proposer.propose(index)
        seconds += time.perf_counter() - start
        if proposed is None:
            break
        schedule, proposal = proposed
        trial = finished_trial(landscape, index, schedule, proposal)
        start = time.perf_counter()
        proposer.tell(trial)
        seconds += time.perf_counter() - start
        points.append((100.0 * trial.metrics["val_top1"], float(trial.cost.macs)))
        trials.append(trial)
    num_repeats = len(trials) - len({trial.key for trial in trials})
    return Run(points=tuple(points), num_repeats=num_repeats, seconds=seconds), trials


def warm_search(landscape: Landscape, *, evaluations: int, seed: int) -> Run:
    """Run our sampler with a warm start from `WARM_EVALUATIONS` on another landscape with another seed."""
    source = shifted()
    _, trials = search("evolution", source, evaluations=WARM_EVALUATIONS, seed=seed + 1000)
    priors = make_priors(trials, source.geometry, dense_value=source.dense_top1 / 100.0)
    return search("evolution", landscape, evaluations=evaluations, seed=seed, priors=priors)[0]


def finished_trial(landscape: Landscape, number: int, schedule: Schedule, proposal: Proposal | None) -> Trial:
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


def hypervolume_fraction(points: Sequence[Point], landscape: Landscape, *, evaluations: int) -> float:
    """Hypervolume of the first evaluations within the limit, as a fraction of the attainable one."""
    able = [point for point in points[:evaluations] if point[1] <= landscape.high]
    assert landscape.attainable is not None, "it is set before"
    return hypervolume(able, reference=(landscape.reference_top1, float(landscape.high))) / landscape.attainable


def run_method(name: str, landscape: Landscape, *, evaluations: int, seed: int) -> Run:
    """Run one method by name."""
    if name in STOCK:
        return stock(STOCK[name], evaluations=evaluations, seed=seed)
    if name == WARM:
        return warm_search(landscape, evaluations=evaluations, seed=seed)
    sampler = next(known for known in SAMPLERS if known == name)
    return search(sampler, landscape, evaluations=evaluations, seed=seed)[0]


def row(name: str, runs: Sequence[Run], landscape: Landscape) -> str:
    """One row of the table: mean and standard deviation over seeds at each mark."""
    cells = []
    for mark in MARKS:
        found = [hypervolume_fraction(run.points, landscape, evaluations=mark) for run in runs]
        spread = statistics.stdev(found) if len(found) > 1 else math.nan
        done = min(len(run.points) for run in runs)
        cells.append(f"{statistics.mean(found):.3f} +- {spread:.3f}" if mark <= done else "")
    points = [point for run in runs for point in run.points]
    feasible = sum(macs <= landscape.high for _, macs in points) / len(points)
    repeats = sum(run.num_repeats for run in runs) / len(points)
    ask_ms = 1e3 * sum(run.seconds for run in runs) / len(points)
    return f"| {name} | {' | '.join(cells)} | {feasible:.3f} | {repeats:.3f} | {len(runs)} | {ask_ms:.1f} |"


def curve(runs: Sequence[Run], landscape: Landscape) -> list[float]:
    """Mean hypervolume fraction after each number of evaluations."""
    return [
        statistics.mean(hypervolume_fraction(run.points, landscape, evaluations=count) for run in runs)
        for count in range(1, min(len(run.points) for run in runs) + 1)
    ]


def draw(curves: dict[str, list[float]], landscape: Landscape, path: Path) -> None:
    """Plot the curves of all methods."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8.0, 5.0), layout="constrained")
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values, label=name, linestyle="--" if name in STOCK else "-")
    axes.set(
        xlabel="evaluations",
        ylabel="fraction of the attainable hypervolume",
        title=landscape.name,
        ylim=(0.3, 1.0),
    )
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    """Run the requested methods and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--landscape", default="stand-in", help="stand-in, supernet[:FOLDER[:SEED]] or the path of a table"
    )
    parser.add_argument("--methods", help="names separated by semicolons; by default all but the slow ones")
    parser.add_argument("--evaluations", type=int, default=300)
    parser.add_argument(
        "--seeds", type=int, help=f"default: {SEEDS}, {SEEDS_OF_OURS} for ours and {SEEDS_OF_SLOW} for slow ones"
    )
    parser.add_argument("--out", type=Path, help="folder for the results as JSON and a picture")
    arguments = parser.parse_args()
    landscape = open_landscape(arguments.landscape)
    able = [*(STOCK if landscape.is_stand_in else ()), *SAMPLERS, *([WARM] if landscape.is_stand_in else [])]
    names = [name for name in able if name not in SLOW]
    if arguments.methods:
        names = [name.strip() for name in arguments.methods.split(";")]
    unknown = [name for name in names if name not in able]
    if unknown:
        parser.error(f"unknown method {unknown[0]!r} on this landscape; choose from: {', '.join(able)}")
    print(f"{landscape.name}: {landscape.describe()}\n", flush=True)
    handcrafted = [
        (landscape.accuracy(schedule), float(AnalyticCost().estimate(landscape.geometry, schedule).macs))
        for schedule in landscape.handcrafted_baseline()
    ]
    runs: dict[str, list[Run]] = {name: [] for name in names}
    for name in names:
        default = SEEDS_OF_SLOW if name in SLOW else SEEDS_OF_OURS if name.startswith("evolution") else SEEDS
        most = min(arguments.evaluations, MOST_OF_SLOW) if name in SLOW else arguments.evaluations
        for seed in range(arguments.seeds or default):
            runs[name].append(run_method(name, landscape, evaluations=most, seed=seed))
    if landscape.attainable is None:
        everything = [point for found in runs.values() for run in found for point in run.points]
        reference = (landscape.reference_top1, float(landscape.high))
        landscape = replace(landscape, attainable=hypervolume([*everything, *handcrafted], reference=reference))
    print(f"| method | {' | '.join(str(mark) for mark in MARKS)} | feasible | repeats | seeds | ms per ask and tell |")
    print("|---|" + "---|" * (len(MARKS) + 4))
    baseline = hypervolume_fraction(handcrafted, landscape, evaluations=len(handcrafted))
    print(f"| hand-crafted baseline, {len(handcrafted)} points | {baseline:.3f} |")
    for name, found in runs.items():
        print(row(name, found, landscape))
    curves = {name: curve(found, landscape) for name, found in runs.items()}
    if "stock tpe" in curves or "tpe" in curves:
        mark = curves["stock tpe" if "stock tpe" in curves else "tpe"][-1 if arguments.evaluations < 200 else 199]
        reached = {
            name: next((i + 1 for i, v in enumerate(values) if v >= mark), None) for name, values in curves.items()
        }
        print(f"\nevaluations to reach {mark:.3f}, the value of tpe after 200 evaluations or at its end: {reached}")
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        document = {
            "landscape": landscape.name,
            "attainable": landscape.attainable,
            "baseline": handcrafted,
            "curves": {name: [round(value, 4) for value in values] for name, values in curves.items()},
            "points": {name: [run.points for run in found] for name, found in runs.items()},
        }
        (arguments.out / "search_quality.json").write_text(json.dumps(document), encoding="utf-8")
        draw(curves, landscape, arguments.out / "search_quality.png")


if __name__ == "__main__":
    main()

"""Landscapes that searches are compared on: synthetic, of a trained supernet, or fitted to a table."""

from __future__ import annotations

import json
import math
import os
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import stand_in

from sparsesearch.budget.baselines import baseline_schedules
from sparsesearch.cost.analytic import AnalyticCost, dense_macs
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.study.trial import Fidelity, Origin, Trial, TrialState


@dataclass(frozen=True, kw_only=True)
class Landscape(ABC):
    """A search problem: a space, and the accuracy of each of its schedules.

    Attributes:
        name: Short name.
        geometry: Geometry of the backbone.
        space: The search space.
        low: Lower end of the range of budgets in multiply-adds.
        high: Upper end; more expensive schedules do not count.
        reference_top1: Accuracy of the reference point in percent.
        attainable: Hypervolume of the best schedules in percent x multiply-adds; None if not known.
    """

    name: str
    geometry: BackboneGeometry
    space: ResolvedSpace
    low: int
    high: int
    reference_top1: float
    attainable: float | None

    is_stand_in = False

    @abstractmethod
    def accuracy(self, schedule: Schedule) -> float:
        """Accuracy in percent."""

    def handcrafted_baseline(self) -> list[Schedule]:
        """The hand-crafted baselines at five budgets of the range."""
        found = baseline_schedules(self.geometry, self.space, low=self.low, high=self.high)
        return [baseline.schedule for baseline in found if baseline.schedule is not None]

    @abstractmethod
    def describe(self) -> str:
        """One line on the landscape and on the normalisation of its values."""


class StandIn(Landscape):
    """The fixed synthetic landscape; see `stand_in`."""

    is_stand_in = True

    def accuracy(self, schedule: Schedule) -> float:
        """Synthetic accuracy."""
        return stand_in.accuracy(schedule)

    def handcrafted_baseline(self) -> list[Schedule]:
        """Equal ratios before blocks 3, 6, 9."""
        return stand_in.handcrafted_baseline()

    def describe(self) -> str:
        """One line."""
        grid = stand_in.REACHABLE_ON_GRID / stand_in.REACHABLE
        return f"fraction of the hypervolume of all token counts; the grid of the stock methods attains {grid:.3f}"


class Shifted(Landscape):
    """The stand-in on a backbone of 16 blocks, with all constants changed: the source of a warm start."""

    dense_top1 = 85.0

    def accuracy(self, schedule: Schedule) -> float:
        """Synthetic accuracy; early drops cost less, large ones more, and the cost decreases more slowly with depth."""
        alive, loss = self.geometry.stages[0].num_tokens, 0.0
        for step in schedule.resolve(self.geometry):
            drop = math.log(alive / step.num_tokens)
            loss += 3.5 * math.exp(-step.block / 7.0) * drop + 2.2 * drop**2
            alive = step.num_tokens
        return self.dense_top1 - loss

    def describe(self) -> str:
        """One line."""
        return "the stand-in on another backbone with other constants"


def shifted() -> Shifted:
    """The source landscape of a warm start; budgets are 35 % to 55 % of dense, instead of 33 % to 65 %."""
    (stage,) = stand_in.GEOMETRY.stages
    deeper = stage.model_copy(update={"depth": 16})
    geometry = stand_in.GEOMETRY.model_copy(update={"name": "deeper", "stages": (deeper,)})
    dense = dense_macs(geometry)
    return Shifted(
        name="shifted",
        geometry=geometry,
        space=SearchSpace(max_predictors=stand_in.NUM_STEPS, scorers=stand_in.SPACE.scorers).resolve(geometry),
        low=round(0.35 * dense),
        high=round(0.55 * dense),
        reference_top1=0.0,
        attainable=None,
    )


@dataclass(frozen=True, kw_only=True)
class Supernet(Landscape):
    """Validation accuracy on supernet weights of deit_pico on the bundled task.

    Evaluations are cached in a table with entries `{"schedule", "macs", "val_top1"}`.

    Attributes:
        evaluator: Evaluator of a study whose supernet training is done.
        table: Table of evaluations, one JSON document per line.
        known: Accuracies by schedule key.
    """

    evaluator: Any
    table: Path
    known: dict[str, float] = field(default_factory=dict)

    def accuracy(self, schedule: Schedule) -> float:
        """Accuracy on 1,200 validation canvases."""
        key = schedule.key(self.geometry)
        if key not in self.known:
            trial = reference_trial(self.geometry, schedule, Fidelity.SUPERNET)
            top1 = next(iter(self.evaluator.evaluate(trial))).measurement.metrics["val_top1"]
            entry = {"schedule": schedule.model_dump(mode="json"), "macs": trial.cost.macs, "val_top1": top1}
            with self.table.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(entry) + "\n")
            self.known[key] = top1
        return 100.0 * self.known[key]

    def describe(self) -> str:
        """One line."""
        return "fraction of the hypervolume of all schedules evaluated by any of these searches"


@dataclass(frozen=True, kw_only=True)
class Table(Landscape):
    """A forest of trees fitted to measured accuracies of schedules.

    The features of the forest (scikit-learn's extremely randomised trees) are the fractions of tokens in each block. It
    is unrelated to the predictor of our sampler.

    Attributes:
        forest: Forest fitted to the table.
        num: Number of schedules in the table.
    """

    forest: Any
    num: int

    def accuracy(self, schedule: Schedule) -> float:
        """Prediction of the forest."""
        return 100.0 * float(self.forest.predict([profile(schedule, self.geometry)])[0])

    def describe(self) -> str:
        """One line."""
        return f"trees fitted to {self.num} schedules; fraction of the hypervolume of all evaluated schedules"


def profile(schedule: Schedule, geometry: BackboneGeometry) -> list[float]:
    """Fraction of the patch tokens in each block of an isotropic backbone, and log-ratio of the drop before it."""
    stage = geometry.stages[0]
    left, dropped = np.ones(stage.depth), np.zeros(stage.depth)
    for step in schedule.resolve(geometry):
        left[step.block :] = step.num_tokens / stage.num_tokens
        dropped[step.block] += math.log(step.num_before / step.num_tokens)
    return [*left.tolist(), *dropped.tolist()]


def reference_trial(geometry: BackboneGeometry, schedule: Schedule, fidelity: Fidelity) -> Trial:
    """A trial to evaluate outside a study."""
    return Trial(
        number=0,
        fidelity=fidelity,
        origin=Origin.SEARCH if fidelity is Fidelity.SUPERNET else Origin.REFERENCE,
        label=fidelity.value,
        schedule=schedule,
        key=schedule.key(geometry),
        cost=AnalyticCost().estimate(geometry, schedule),
        seed=0,
        study="landscape",
        state=TrialState.RUNNING,
        attempt=1,
    )


def open_supernet(folder: Path, *, seed: int = 0) -> Landscape:
    """Train the supernet of deit_pico, or load it if it was trained before.

    Args:
        folder: Folder of the training and the table.
        seed: Seed of the trainings.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from sparsesearch.app.complete import complete
    from sparsesearch.app.resolve import resolve
    from sparsesearch.evaluate.opening import open_evaluator, portable_evaluator
    from sparsesearch.study.progress import Silent

    document = {
        "name": "landscape",
        "backbone": "deit_pico",
        "budget": "20%:45%",
        "data": {"source": "digits", "num_val_images": 1200},
        "precision": "float32",
        "device": "cpu",
        "seed": seed,
    }
    spec = resolve(complete(document, progress=Silent()), progress=Silent())
    assert spec.resolved is not None
    geometry = spec.resolved.geometry
    portable = portable_evaluator(spec, storage=folder / "storage", cache=folder / "cache", elapsed_s=0.0)
    evaluator = open_evaluator(portable.document)
    start = time.perf_counter()
    for fidelity in (Fidelity.DENSE, Fidelity.SUPERNET_TRAINING):
        for _ in evaluator.evaluate(reference_trial(geometry, Schedule(), fidelity)):
            pass
    print(f"supernet training: {time.perf_counter() - start:.0f} s", flush=True)
    table, known = folder / "supernet_table.jsonl", {}
    if table.is_file():
        for line in table.read_text(encoding="utf-8").splitlines():
            entry = json.loads(line)
            known[Schedule.model_validate(entry["schedule"]).key(geometry)] = entry["val_top1"]
    dense = dense_macs(geometry)
    return Supernet(
        name="supernet of deit_pico",
        geometry=geometry,
        space=spec.resolved.space,
        low=round(0.20 * dense),
        high=round(0.45 * dense),
        reference_top1=85.0,
        attainable=None,
        evaluator=evaluator,
        table=table,
        known=known,
    )


def read_table(path: Path) -> tuple[BackboneGeometry, list[Schedule], list[int], list[float]]:
    """Read a JSON list (or lines) of `{"schedule", "macs", "val_top1"}` of deit_pico's default space.

    Returns:
        The backbone, schedules, multiply-adds and accuracies from 0 to 1.
    """
    from sparsesearch.data.inputs import open_task, task_geometry
    from sparsesearch.study.spec import DataSpec

    geometry = task_geometry("deit_pico", open_task(DataSpec(), backbone="deit_pico"))
    text = path.read_text(encoding="utf-8")
    entries = json.loads(text) if text.startswith("[") else [json.loads(line) for line in text.splitlines()]
    schedules = [Schedule.model_validate(entry["schedule"]) for entry in entries]
    return geometry, schedules, [int(e["macs"]) for e in entries], [float(e["val_top1"]) for e in entries]


def open_table(path: Path) -> Landscape:
    """A landscape fitted to a table, see `read_table`.

    The range of budgets is that of the table, the reference accuracy its lower quartile.
    """
    from sklearn.ensemble import ExtraTreesRegressor

    from sparsesearch.space.definition import space_for_backbone

    geometry, schedules, macs, top1 = read_table(path)
    forest = ExtraTreesRegressor(n_estimators=100, min_samples_leaf=2, random_state=0, n_jobs=1)
    forest.fit([profile(schedule, geometry) for schedule in schedules], top1)
    return Table(
        name=path.name,
        geometry=geometry,
        space=space_for_backbone("deit_pico").resolve(geometry),
        low=min(macs),
        high=max(macs),
        reference_top1=100.0 * float(np.quantile(top1, 0.25)),
        attainable=None,
        forest=forest,
        num=len(schedules),
    )


def open_landscape(name: str) -> Landscape:
    """A landscape by name or path."""
    kind, _, rest = name.partition(":")
    if kind == "supernet":
        folder, _, seed = rest.partition(":")
        return open_supernet(Path(folder or "supernet_landscape").absolute(), seed=int(seed or 0))
    if name != "stand-in":
        return open_table(Path(name))
    return StandIn(
        name="stand-in",
        geometry=stand_in.GEOMETRY,
        space=stand_in.SPACE.resolve(stand_in.GEOMETRY),
        low=1_500_000_000,
        high=stand_in.LIMIT_MACS,
        reference_top1=stand_in.REFERENCE[0],
        attainable=stand_in.REACHABLE * 1e9,
    )

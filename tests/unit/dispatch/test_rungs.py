"""Who is stopped at which rung, on learning curves from a table, against plain definitions of both rules."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sparsesearch.dispatch.rungs import AccuracyRungs, ParetoRungs, Rungs, open_rungs
from sparsesearch.evaluate.tabulated import TabulatedEvaluator
from sparsesearch.schedule import Schedule
from sparsesearch.search.rung_ranking import goes_on
from sparsesearch.study.events import Measured
from sparsesearch.study.spec import Budget, FidelitySpec, RungSpec, StudySpec, TrainSpec
from sparsesearch.study.trial import Cost, Fidelity, Measurement, Origin, Trial

EPOCHS = 9


def table(schedule: Schedule, fidelity: Fidelity) -> list[dict[str, float]]:
    """Learning curves that cross: what is good late need not be good early."""
    level, slope = schedule.steps[0].keep_ratio, schedule.steps[1].keep_ratio
    return [{"val_top1": level + (epoch - 1) * slope / 20} for epoch in range(1, EPOCHS + 1)]


def make_trials(count: int, *, seed: int = 0, origin: Origin = Origin.SEARCH) -> list[Trial]:
    rng = np.random.default_rng(seed)
    trials = []
    for number in range(count):
        level = 0.3 + 0.4 * float(rng.random())
        schedule = Schedule.at([3, 6], [level, level * float(rng.random())])
        macs = int(1e9 * rng.random())
        trials.append(
            Trial(
                number=number,
                fidelity=Fidelity.FINETUNE,
                origin=origin,
                label="search",
                schedule=schedule,
                key=str(number),
                cost=Cost(macs=macs, params=1),
                seed=0,
                study="study",
                attempt=1,
            )
        )
    return trials


def run(rungs: Rungs, trials: Sequence[Trial]) -> dict[int, int]:
    """Trial to the epoch it was stopped after; one trial after the other."""
    stopped = {}
    for trial in trials:
        for event in TabulatedEvaluator(table).evaluate(trial):
            if isinstance(event, Measured) and rungs.decide(trial, event.measurement) is not None:
                stopped[trial.number] = event.measurement.step
                break
    return stopped


def top1(trial: Trial, epoch: int) -> float:
    return table(trial.schedule, trial.fidelity)[epoch - 1]["val_top1"]


def expected(trials: Sequence[Trial], *, spec: RungSpec, pareto: bool) -> dict[int, int]:
    """The rules, written down plainly."""
    milestones = [epoch for epoch in (spec.first_epoch * spec.factor**k for k in range(9)) if epoch < EPOCHS]
    reached: dict[int, list[Trial]] = {milestone: [] for milestone in milestones}
    stopped = {}
    for trial in trials:
        for milestone in milestones:
            before = reached[milestone]
            points = [(top1(other, milestone), float(other.cost.macs)) for other in before]
            mine = (top1(trial, milestone), float(trial.cost.macs))
            if pareto:
                stays = goes_on(points, newest=mine, factor=spec.factor)
            else:
                cut = np.percentile([p[0] for p in points], 100 * (1 - 1 / spec.factor)) if points else -np.inf
                stays = mine[0] >= cut
            before.append(trial)
            if not stays:
                stopped[trial.number] = milestone
                break
    return stopped


KINDS = pytest.mark.parametrize(("kind", "pareto"), [(AccuracyRungs, False), (ParetoRungs, True)])


@KINDS
@pytest.mark.parametrize("spec", [RungSpec(), RungSpec(first_epoch=2, factor=2), RungSpec(first_epoch=20)])
def test_stops_whom_the_rule_stops(kind: type[AccuracyRungs | ParetoRungs], pareto: bool, spec: RungSpec) -> None:
    trials = make_trials(80)
    stopped = run(kind(spec, epochs=EPOCHS, trials=[]), trials)
    assert stopped == expected(trials, spec=spec, pareto=pareto)
    assert bool(stopped) == (spec.first_epoch < EPOCHS)


@KINDS
def test_about_one_of_factor_goes_on(kind: type[AccuracyRungs | ParetoRungs], pareto: bool) -> None:
    """Of 400 in random order: a third at the first rung, and of these a third at the second."""
    stopped = run(kind(RungSpec(), epochs=EPOCHS, trials=[]), make_trials(400, seed=1))
    second = 400 - sum(epoch == 1 for epoch in stopped.values())
    assert second / 400 == pytest.approx(1 / 3, abs=0.06)
    third = second - sum(epoch == 3 for epoch in stopped.values())
    assert third / second == pytest.approx(1 / 3, abs=0.12)
    assert set(stopped.values()) == {1, 3}, "nobody is stopped after the last epoch"


@KINDS
def test_whoever_comes_later_changes_no_decision(kind: type[AccuracyRungs | ParetoRungs], pareto: bool) -> None:
    """Anytime: what was decided after k trials is what a study of k trials decides."""
    trials = make_trials(60, seed=2)
    whole = run(kind(RungSpec(), epochs=EPOCHS, trials=[]), trials)
    for k in (1, 7, 30):
        part = run(kind(RungSpec(), epochs=EPOCHS, trials=[]), trials[:k])
        assert part == {number: epoch for number, epoch in whole.items() if number < k}


@KINDS
def test_goes_on_from_stored_rows_as_before(kind: type[AccuracyRungs | ParetoRungs], pareto: bool) -> None:
    trials = make_trials(60, seed=3)
    rungs = kind(RungSpec(), epochs=EPOCHS, trials=[])
    stopped = run(rungs, trials[:40])
    stored = []
    for trial in trials[:40]:
        last = stopped.get(trial.number, EPOCHS)
        rows = [
            Measurement(
                step=e, attempt=1, fidelity=trial.fidelity, metrics={"val_top1": top1(trial, e)}, seconds=0, seed=0
            )
            for e in range(1, last + 1)
        ]
        stored.append(trial.model_copy(update={"measurements": tuple(rows)}))
    again = kind(RungSpec(), epochs=EPOCHS, trials=reversed(stored))
    assert run(again, trials[40:]) == run(rungs, trials[40:])


@KINDS
def test_the_same_report_again_changes_nothing(kind: type[AccuracyRungs | ParetoRungs], pareto: bool) -> None:
    rungs = kind(RungSpec(), epochs=EPOCHS, trials=[])
    good, bad = make_trials(2)
    high = Measurement(step=1, attempt=1, fidelity=good.fidelity, metrics={"val_top1": 0.9}, seconds=0, seed=0)
    low = high.model_copy(update={"metrics": {"val_top1": 0.1}})
    good = good.model_copy(update={"cost": Cost(macs=1, params=1)})
    assert rungs.decide(good, high) is None
    assert rungs.decide(good, high) is None
    assert rungs.decide(bad, low) is not None
    assert rungs.decide(bad, low) is None, "it is in the rung already"


@KINDS
def test_references_and_baselines_are_never_stopped(kind: type[AccuracyRungs | ParetoRungs], pareto: bool) -> None:
    assert not run(kind(RungSpec(), epochs=EPOCHS, trials=[]), make_trials(30, origin=Origin.BASELINE))


def test_a_cheap_schedule_is_not_stopped_for_being_less_accurate() -> None:
    dear = [
        trial.model_copy(update={"schedule": Schedule.at([3, 6], [0.7, 0.1]), "cost": Cost(macs=1000 + n, params=1)})
        for n, trial in enumerate(make_trials(10))
    ]
    cheap = make_trials(11)[-1].model_copy(
        update={"schedule": Schedule.at([3, 6], [0.3, 0.1]), "cost": Cost(macs=100, params=1)}
    )
    assert run(AccuracyRungs(RungSpec(), epochs=3, trials=[]), [*dear, cheap])[cheap.number] == 1
    assert cheap.number not in run(ParetoRungs(RungSpec(), epochs=3, trials=[]), [*dear, cheap])


def test_milliseconds_rank_where_the_budget_is_one() -> None:
    slow, fast = (
        trial.model_copy(
            update={
                "schedule": Schedule.at([3, 6], [0.5 + 0.1 * (number == 0), 0.1]),
                "cost": Cost(macs=100 + number, params=1, predicted_ms=9.0 - number),
            }
        )
        for number, trial in enumerate(make_trials(2))
    )
    spec = RungSpec(factor=2)
    assert run(ParetoRungs(spec, epochs=2, trials=[]), [fast, slow]) == {}, (
        "more accurate, and cheaper in multiply-adds"
    )
    slower = slow.model_copy(update={"schedule": Schedule.at([3, 6], [0.4, 0.1])})
    assert run(ParetoRungs(spec, epochs=2, trials=[], axis="ms"), [fast, slower]) == {slower.number: 1}


def test_which_rungs_a_study_has() -> None:
    def spec(**changes: object) -> StudySpec:
        fidelity = FidelitySpec(
            strategy="finetune", finetune=TrainSpec(epochs=EPOCHS), rungs=changes.pop("rungs", RungSpec())
        )
        return StudySpec(name="s", backbone="b", fidelity=fidelity, dispatcher="ray", budget=changes["budget"])

    assert open_rungs(spec(budget=Budget(high=0.5), rungs=None), []) is None
    assert isinstance(open_rungs(spec(budget=Budget(high=0.5)), []), AccuracyRungs)
    assert isinstance(open_rungs(spec(budget=Budget(low=0.2, high=0.5)), []), ParetoRungs)

"""Which parameters of the search space made the difference, from the stored trials."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.storages import InMemoryStorage
from optuna.study import StudyDirection
from optuna.trial import create_trial

from sparsesearch.analysis.evaluations import evaluations, searched_fidelities
from sparsesearch.analysis.study_front import cost_along
from sparsesearch.analysis.view import StudyView
from sparsesearch.space.encoding import Params, parameters
from sparsesearch.study.trial import Axis, Origin, Trial

LEAST_TRIALS = 20
"""With fewer trials importances say more about chance than about parameters."""

_LEAST_GOOD = 5  # trials among the good ones: fewer make importances unstable, says Optuna
_BUDGET = "budget"  # chosen for each proposal, but no part of a schedule's shape


@dataclass(frozen=True)
class Importance:
    """Shares of the parameters in what sets good trials apart.

    Attributes:
        shares: Parameter to its share; they sum to 1. The largest first.
        trials: Trials that this rests on.
        good: How many of them count as good.
        objective: What good means.
    """

    shares: dict[str, float]
    trials: int
    good: int
    objective: str


def importance(view: StudyView) -> Importance | None:
    """Importances at the fidelity at which proposals are evaluated first; None with too few trials to tell.

    An in-memory Optuna study is built again from the stored trials, and judged by PED-ANOVA: how differently a
    parameter is distributed among the good trials and among all. With a range of budgets the good ones are those
    nearest to the front (by non-domination, then by hypervolume); with one budget the most accurate. It is a statement
    about the trials that the sampler made, not about the whole space.

    Source: PED-ANOVA, Watanabe et al. 2023 (arXiv:2304.10255); parameters that not every trial has as in
    arXiv:2601.20800.
    """
    fidelities = searched_fidelities(view)
    trials = [
        item.trial
        for item in evaluations(view)
        if fidelities and item.trial.fidelity is fidelities[0] and item.trial.origin is Origin.SEARCH
    ]
    trials = [trial for trial in trials if trial.proposal is not None and trial.proposal.params]
    distributions = _distributions(view, trials)
    names = sorted(name for name, found in distributions.items() if name != _BUDGET and not found.single())
    if len(trials) < LEAST_TRIALS or not names:
        return None
    is_range = view.spec.budget.low is not None
    study = _study(trials, distributions, is_range=is_range, axis=view.front.axis)
    quantile = max(0.1, _LEAST_GOOD / len(trials))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few trials in a regime: said by `trials` and `good`
        shares = get_param_importances(study, evaluator=evaluator, params=names)
    return Importance(
        shares=dict(sorted(shares.items(), key=lambda share: (-share[1], share[0]))),
        trials=len(trials),
        good=math.ceil(quantile * len(trials)),
        objective="being near the front" if is_range else "being accurate",
    )


def _study(
    trials: Sequence[Trial], distributions: dict[str, BaseDistribution], *, is_range: bool, axis: Axis
) -> optuna.study.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    maximize, minimize = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    study = optuna.create_study(storage=InMemoryStorage(), directions=[maximize, minimize] if is_range else [maximize])
    for trial in trials:
        assert trial.proposal is not None, "others were left out"
        values = [trial.metrics["val_top1"], cost_along(trial, axis)]
        params = _active(trial.proposal.params)
        study.add_trial(
            create_trial(
                values=values if is_range else values[:1],
                params=params,
                distributions={name: distributions[name] for name in params},
            )
        )
    return study


def _active(params: Params) -> Params:
    """Without the parameters of steps that do not count, which carry fixed values."""
    steps = float(params.get("predictors", math.inf))
    suffixes = {name: name.rpartition("_")[2] for name in params}
    return {
        name: value for name, value in params.items() if not (suffixes[name].isdigit() and int(suffixes[name]) >= steps)
    }


def _distributions(view: StudyView, trials: Sequence[Trial]) -> dict[str, BaseDistribution]:
    """Where the parameters of the trials lie: over the bounds of the space, or over the values that there are."""
    values: dict[str, list[int | float | str]] = {}
    for trial in trials:
        for name, value in (_active(trial.proposal.params) if trial.proposal is not None else {}).items():
            values.setdefault(name, []).append(value)
    choices = {parameter.name for parameter in parameters(view.spec.space) if parameter.kind == "choice"}
    return {name: _distribution(seen, is_choice=name in choices) for name, seen in values.items()}


def _distribution(values: Sequence[int | float | str], *, is_choice: bool) -> BaseDistribution:
    if is_choice or any(isinstance(value, str) for value in values):
        return CategoricalDistribution(sorted(set(values), key=repr))
    numbers = [value for value in values if not isinstance(value, str)]
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(min(numbers)), int(max(numbers)))
    return FloatDistribution(float(min(numbers)), float(max(numbers)))

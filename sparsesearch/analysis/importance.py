"""Importances of the parameters of the search space, from the stored trials."""

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

from sparsesearch.analysis.evaluations import searched_fidelities
from sparsesearch.analysis.study_front import cost_along, has_score
from sparsesearch.analysis.view import StudyView
from sparsesearch.space.encoding import Params, parameters
from sparsesearch.study.metric import Metric
from sparsesearch.study.trial import Axis, Origin, Trial

MIN_TRIALS = 20
"""With fewer trials, importances are dominated by noise."""

_MIN_GOOD = 5  # minimum number of good trials; with fewer, Optuna's documentation calls importances unstable
_BUDGET = "budget"  # drawn for each proposal, but not part of the shape of a schedule


@dataclass(frozen=True)
class Importance:
    """Relative importances of the parameters.

    Attributes:
        shares: Importance of each parameter, largest first; they sum to 1.
        trials: Number of trials that they are computed from.
        good: How many of them count as good.
        objective: What makes a trial good.
    """

    shares: dict[str, float]
    trials: int
    good: int
    objective: str


def importance(view: StudyView) -> Importance | None:
    """Importances at the fidelity at which proposals are evaluated first; None with too few trials.

    PED-ANOVA is run on an in-memory Optuna study rebuilt from the stored trials: it compares the distribution of a
    parameter among the good trials with that among all. With a range of budgets, the good trials are those closest to
    the front (by non-domination rank, then by hypervolume); with one budget, the most accurate. The result describes
    the trials that the sampler proposed, not the whole space.

    Source: PED-ANOVA, Watanabe et al. 2023 (arXiv:2304.10255); conditional parameters as in arXiv:2601.20800.
    """
    fidelities = searched_fidelities(view)
    trials = [
        trial
        for trial in view.trials
        if fidelities
        and trial.fidelity is fidelities[0]
        and trial.origin is Origin.SEARCH
        and has_score(trial, view.spec.metric)
        and trial.proposal is not None
        and trial.proposal.params
    ]
    distributions = _distributions(view, trials)
    names = sorted(name for name, found in distributions.items() if name != _BUDGET and not found.single())
    if len(trials) < MIN_TRIALS or not names:
        return None
    is_range = view.spec.budget.low is not None
    study = _study(trials, distributions, is_range=is_range, axis=view.front.axis, metric=view.spec.metric)
    quantile = max(0.1, _MIN_GOOD / len(trials))
    evaluator = PedAnovaImportanceEvaluator(target_quantile=quantile)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few trials: reported by `trials` and `good`
        shares = get_param_importances(study, evaluator=evaluator, params=names)
    return Importance(
        shares=dict(sorted(shares.items(), key=lambda item: (-item[1], item[0]))),
        trials=len(trials),
        good=math.ceil(quantile * len(trials)),
        objective="proximity to the front" if is_range else view.spec.metric.words.removeprefix("validation "),
    )


def _study(
    trials: Sequence[Trial], distributions: dict[str, BaseDistribution], *, is_range: bool, axis: Axis, metric: Metric
) -> optuna.study.Study:
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    maximize, minimize = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    study = optuna.create_study(storage=InMemoryStorage(), directions=[maximize, minimize] if is_range else [maximize])
    for trial in trials:
        assert trial.proposal is not None, "trials without a proposal are filtered out"
        values = [metric.score(trial.metrics), cost_along(trial, axis)]
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
    """The parameters without those of inactive steps, which have fixed values."""
    steps = float(params.get("predictors", math.inf))
    suffixes = {name: name.rpartition("_")[2] for name in params}
    return {
        name: value for name, value in params.items() if not (suffixes[name].isdigit() and int(suffixes[name]) >= steps)
    }


def _distributions(view: StudyView, trials: Sequence[Trial]) -> dict[str, BaseDistribution]:
    """The distribution of each parameter, over the values that occur in the trials."""
    values: dict[str, list[int | float | str]] = {}
    for trial in trials:
        for name, value in (_active(trial.proposal.params) if trial.proposal is not None else {}).items():
            values.setdefault(name, []).append(value)
    resolved = view.spec.resolved
    choices = {p.name for p in parameters(resolved.space) if p.kind == "choice"} if resolved is not None else set()
    return {name: _distribution(seen, is_choice=name in choices) for name, seen in values.items()}


def _distribution(values: Sequence[int | float | str], *, is_choice: bool) -> BaseDistribution:
    if is_choice or any(isinstance(value, str) for value in values):
        return CategoricalDistribution(sorted(set(values), key=repr))
    numbers = [value for value in values if not isinstance(value, str)]
    if all(isinstance(value, int) for value in numbers):
        return IntDistribution(int(min(numbers)), int(max(numbers)))
    return FloatDistribution(float(min(numbers)), float(max(numbers)))

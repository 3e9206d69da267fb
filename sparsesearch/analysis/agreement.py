"""How well shared weights predict fine-tuned accuracy: rank correlations over schedules measured both ways."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.analysis.rank_correlation import kendall_tau, spearman_rho
from sparsesearch.analysis.study_front import has_score
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.trial import Fidelity, Trial

FEW_PAIRS = 8
"""With fewer pairs, a rank correlation is too noisy to be informative."""


@dataclass(frozen=True)
class Agreement:
    """Rank correlations over the schedules that are measured at both fidelities.

    Attributes:
        pairs: Each schedule evaluated on shared weights (or, without training, on the dense ones), and fine-tuned.
        tau: Kendall's tau-b of the two accuracies, None if undefined.
        rho: Spearman's rho of the two.
        tau_macs: Kendall's tau-b of multiply-adds and the fine-tuned accuracy: what ranking by cost alone achieves.
            Supernet training is worth its cost only where `tau` is higher.
    """

    pairs: tuple[tuple[Trial, Trial], ...]
    tau: float | None
    rho: float | None
    tau_macs: float | None


def agreement(view: StudyView) -> Agreement | None:
    """The agreement of the two fidelities; None if fewer than two schedules are measured at both."""
    scored = [trial for trial in view.trials if has_score(trial, view.spec.metric)]
    screened = {trial.key: trial for trial in scored if not trial.fidelity.is_training}
    tuned = {trial.key: trial for trial in scored if trial.fidelity is Fidelity.FINETUNE}
    pairs = tuple((screened[key], trial) for key, trial in tuned.items() if key in screened)
    if len(pairs) < 2:
        return None
    before = [view.score(pair[0]) for pair in pairs]
    after = [view.score(pair[1]) for pair in pairs]
    macs = [float(pair[1].cost.macs) for pair in pairs]
    return Agreement(pairs, kendall_tau(before, after), spearman_rho(before, after), kendall_tau(macs, after))

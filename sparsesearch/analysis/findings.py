"""Everything that a report states about a study, computed from its view alone."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sparsesearch.analysis.agreement import Agreement, agreement
from sparsesearch.analysis.baseline_comparison import BaselineComparison, compare_with_baselines
from sparsesearch.analysis.convergence import Convergence, convergence
from sparsesearch.analysis.hypervolume_curve import HypervolumeCurve, hypervolume_curves
from sparsesearch.analysis.importance import Importance, importance
from sparsesearch.analysis.regret import RegretCurve, regret_curves
from sparsesearch.analysis.spending import PhaseSpending, spending
from sparsesearch.analysis.view import StudyView
from sparsesearch.papers.overlay import PaperOverlay
from sparsesearch.study.trial import Trial


@dataclass(frozen=True)
class Findings:
    """The analysis of a study.

    Attributes:
        view: The study.
        curves: Its hypervolume over evaluations, by fidelity.
        regrets: Its regret against hand-crafted schedules over evaluations, by fidelity.
        importance: Importances of the search parameters; None with too few trials.
        comparison: Searched compared with hand-crafted schedules, by budget.
        agreement: Rank correlation of shared weights with fine-tuning; None if nothing is measured at both.
        spending: Time and trials spent, by phase.
        convergence: Whether the search has converged.
        paper: A paper's schedules to draw over the front, or None.
    """

    view: StudyView
    curves: tuple[HypervolumeCurve, ...]
    regrets: tuple[RegretCurve, ...]
    importance: Importance | None
    comparison: tuple[BaselineComparison, ...]
    agreement: Agreement | None
    spending: tuple[PhaseSpending, ...]
    convergence: Convergence
    paper: PaperOverlay | None = None

    @classmethod
    def of(cls, view: StudyView, *, paper: PaperOverlay | None = None) -> Findings:
        """Analyse a study."""
        return cls(
            view=view,
            curves=hypervolume_curves(view),
            regrets=regret_curves(view),
            importance=importance(view),
            comparison=compare_with_baselines(view),
            agreement=agreement(view),
            spending=spending(view),
            convergence=convergence(view),
            paper=paper,
        )

    def document(self) -> dict[str, object]:
        """The object that `report --json` prints."""
        view = self.view
        return {
            "study": view.spec.name,
            "backbone": view.spec.backbone,
            "budget": str(view.spec.budget),
            "axis": view.front.axis,
            "warnings": list(view.warnings),
            "fidelity": None if view.front.fidelity is None else view.front.fidelity.value,
            "dense": None if view.front.reference is None else view.front.reference.public(),
            "best": None if view.best is None else view.best.public(),
            "front": [_brief(view, trial) for trial in view.front.points],
            "hypervolume": view.hypervolume,
            "hypervolume_curves": [asdict(curve) for curve in self.curves],
            "regret": [asdict(curve) for curve in self.regrets],
            "importance": None if self.importance is None else asdict(self.importance),
            "against_baselines": [_compared(view, row) for row in self.comparison],
            "agreement": None if self.agreement is None else _agreed(self.agreement),
            "spending": [asdict(phase) for phase in self.spending],
            "convergence": {**asdict(self.convergence), "sentence": self.convergence.sentence},
            **({} if self.paper is None else {"paper": self.paper.document()}),
        }


def _brief(view: StudyView, trial: Trial) -> dict[str, object]:
    return {
        "trial": trial.number,
        "macs": trial.cost.macs,
        "latency_ms": trial.cost.latency_ms,
        "predicted_ms": trial.cost.predicted_ms,
        view.spec.metric.name: view.spec.metric.of(trial.metrics),
        "label": trial.label,
        "tokens": view.schedule_text(trial),
    }


def _compared(view: StudyView, row: BaselineComparison) -> dict[str, object]:
    return {
        "axis": row.axis,
        "budget": row.budget,
        "baseline": _brief(view, row.baseline),
        "searched": None if row.searched is None else _brief(view, row.searched),
        "difference": row.difference,
        "interval": row.interval,
        "is_paired": row.is_paired,
    }


def _agreed(found: Agreement) -> dict[str, object]:
    return {
        "schedules": len(found.pairs),
        "kendall_tau": found.tau,
        "spearman_rho": found.rho,
        "kendall_tau_of_macs": found.tau_macs,
    }

"""All studies of a store, one summary each."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.analysis.view import StudyView
from sparsesearch.study.protocols import StudyRecords, StudyStore
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StudyCondition
from sparsesearch.study.trial import Trial


@dataclass(frozen=True)
class StudySummary:
    """What a list of studies shows of one.

    Attributes:
        spec: Its document.
        condition: Its stored state, and what is known with it.
        num_trials: Number of its trials.
        best: The trial with the best accuracy on its front; None without a front.
    """

    spec: StudySpec
    condition: StudyCondition
    num_trials: int
    best: Trial | None

    def document(self) -> dict[str, object]:
        """The object that `studies --json` prints."""
        spec = self.spec
        return {
            "study": spec.name,
            "state": self.condition.word.upper(),
            "backbone": spec.backbone,
            "budget": str(spec.budget),
            "data": spec.data.source,
            "trials": self.num_trials,
            f"best_{spec.metric.name}": None if self.best is None else spec.metric.of(self.best.metrics),
            "meaningful": spec.meaningful,
        }


def list_studies(store: StudyStore, records: StudyRecords) -> list[StudySummary]:
    """Summarize all studies, oldest first."""
    return [_summary(StudyView.of(records, name)) for name in store.studies()]


def _summary(view: StudyView) -> StudySummary:
    metric = view.spec.metric
    best = max(view.front.points, key=lambda trial: metric.score(trial.metrics), default=None)
    return StudySummary(view.spec, view.condition, len(view.trials), best)

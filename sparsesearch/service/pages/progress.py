"""How far the studies of a list are."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.analysis.phases import study_phases
from sparsesearch.analysis.view import StudyView
from sparsesearch.analysis.words import meaningful_text
from sparsesearch.service.pages.queue_places import queue_places
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.digest import StudySummary
from sparsesearch.study.state import StudyState
from sparsesearch.study.submission import Submission
from sparsesearch.study.trial import StudyTimes, TrialState


@dataclass(frozen=True)
class ListedStudy:
    """A study in the list.

    Attributes:
        summary: The study.
        submission: What is known because it was submitted; None if it was started elsewhere.
        place: Its place in the queue, from 1; None if it is not in the queue.
        done: Number of trials that have ended.
        total: Expected number of trials; None if that is of no interest.
        phase: Name of its current phase; empty if there is none.
        best: The best value of its metric as text; empty if there is none.
    """

    summary: StudySummary
    submission: Submission | None
    place: int | None
    done: int
    total: int | None
    phase: str
    best: str


def listed(store: SqlStore, *, limit: int, offset: int) -> list[ListedStudy]:
    """The studies of one page of the list, newest first."""
    found = list(reversed(store.summaries(newest=limit, skip=offset)))
    submissions = store.queue.submissions([one.spec.name for one in found])
    is_queued = any(one.condition.state is StudyState.QUEUED for one in found)
    places = queue_places(store) if is_queued else {}
    return [_listed(store, one, submissions.get(one.spec.name), places.get(one.spec.name)) for one in found]


def _listed(store: SqlStore, summary: StudySummary, submission: Submission | None, place: int | None) -> ListedStudy:
    spec, condition = summary.spec, summary.condition
    best = "" if summary.best is None else meaningful_text(spec, summary.best)
    if condition.state.is_over or not summary.num_trials:
        return ListedStudy(summary, submission, place, summary.num_trials, None, "", best)
    digest = store.digest(spec.name)
    running = tuple(store.trials(spec.name, states=[TrialState.RUNNING]))
    phases = study_phases(StudyView(spec, running, StudyTimes(created_at=0.0)), digest, is_finished=False)
    current = next((phase.name for phase in phases if not phase.is_over), "")
    done, total = sum(phase.done for phase in phases), sum(phase.total for phase in phases)
    return ListedStudy(summary, submission, place, done, total, current, best)

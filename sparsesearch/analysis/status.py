"""The status of a study: its progress, running trials, results so far and remaining time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from sparsesearch.analysis.eta import Spans, seconds_left
from sparsesearch.analysis.phases import Phase, study_phases
from sparsesearch.analysis.study_front import BEST_FIRST
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.digest import StudyDigest, spans_of
from sparsesearch.study.metric import Metric
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StudyCondition
from sparsesearch.study.trial import Fidelity, Trial, TrialState


@dataclass(frozen=True)
class RunningTrial:
    """A running trial.

    Attributes:
        number: Its number.
        attempt: Its attempt.
        label: Short display name.
        schedule: For example `3:137 6:96`; empty for dense and supernet training.
        epochs_done: Epochs measured so far.
        epochs: Total epochs; None for an evaluation without training.
        metric: The latest value of the metric; None before the first.
        seconds: Seconds since it started.
    """

    number: int
    attempt: int
    label: str
    schedule: str
    epochs_done: int
    epochs: int | None
    metric: float | None
    seconds: float

    def document(self, metric: Metric) -> dict[str, object]:
        """The object that `status --json` prints; the metric is called by its name."""
        return {{"metric": metric.name}.get(key, key): value for key, value in asdict(self).items()}


@dataclass(frozen=True)
class Trouble:
    """Trials that failed permanently, or needed another attempt.

    Attributes:
        count: Number of trials.
        last: The last of them with its reason, `trial 5: ...`; None if there are none.
    """

    count: int
    last: str | None


@dataclass(frozen=True)
class StudyStatus:
    """The status of a study at one point in time.

    Attributes:
        spec: The study.
        condition: Its stored state, and what is known with it.
        phases: Its phases in order.
        running: Its running trials, by number; empty unless the study is running.
        failed: Trials that failed permanently.
        retried: Trials that needed another attempt.
        dense: The dense model; None until it is measured.
        fidelity: The fidelity of its front; None while there is none.
        best: The most accurate trial within the budget; None while there is none.
        best_schedule: Its schedule as one line.
        front_size: Number of schedules on the front.
        hypervolume: See `StudyView.hypervolume`.
        elapsed_s: Seconds since it was created; of a study that is not running, until its last event.
        left_s: Estimated remaining seconds; None if unknown, or if the study is not running.
    """

    spec: StudySpec
    condition: StudyCondition
    phases: tuple[Phase, ...]
    running: tuple[RunningTrial, ...]
    failed: Trouble
    retried: Trouble
    dense: Trial | None
    fidelity: Fidelity | None
    best: Trial | None
    best_schedule: str
    front_size: int
    hypervolume: float | None
    elapsed_s: float
    left_s: float | None

    @classmethod
    def of(
        cls, view: StudyView, *, now: float, digest: StudyDigest | None = None, spans: Spans | None = None
    ) -> StudyStatus:
        """Compute the status of a study.

        Args:
            view: The study: all its trials, or with `digest` those of `read_view`.
            now: Unix time in seconds.
            digest: All its trials in numbers; by default those of the view.
            spans: When its measurements were taken; by default those of the view.
        """
        condition = view.condition
        is_running = condition.state.is_active and condition.is_leased
        digest = digest or StudyDigest.of(view.trials, view.times)
        spans = spans or (lambda fidelity: spans_of(view.trials, fidelity, view.times))
        phases = study_phases(view, digest, is_finished=condition.state.is_over)
        num_failed = digest.number(where=lambda state: state is TrialState.FAILED)
        if not is_running:
            phases = tuple(replace(phase, running=0) for phase in phases)
        return cls(
            spec=view.spec,
            condition=condition,
            phases=phases,
            running=tuple(_running(view, phases, now=now)) if is_running else (),
            failed=_trouble(num_failed, digest.last_failed, view),
            retried=_trouble(digest.num_retried, digest.last_retried, view),
            dense=view.front.reference,
            fidelity=view.front.fidelity,
            best=view.best,
            best_schedule="" if view.best is None else view.schedule_text(view.best),
            front_size=len(view.front.points),
            hypervolume=view.hypervolume,
            elapsed_s=max(0.0, (now if is_running else digest.last_event_at) - view.times.created_at),
            left_s=seconds_left(view, phases, spans, now=now) if is_running else None,
        )

    @property
    def phase(self) -> Phase | None:
        """The current phase; None if all are over."""
        return next((phase for phase in self.phases if not phase.is_over), None)

    def document(self) -> dict[str, object]:
        """The object that `status --json` prints."""
        best = None if self.best is None else {**self.best.public(), "tokens": self.best_schedule}
        return {
            "study": self.spec.name,
            "state": self.condition.word.upper(),
            "reason": self.condition.reason,
            "backbone": self.spec.backbone,
            "budget": str(self.spec.budget),
            "dispatcher": self.spec.dispatcher,
            "accuracy": "ok" if self.spec.meaningful else "not meaningful",
            "elapsed_s": round(self.elapsed_s, 1),
            "left_s": None if self.left_s is None else round(self.left_s, 1),
            "phases": [
                {
                    "phase": phase.name,
                    "done": phase.done,
                    "total": phase.total,
                    "running": phase.running,
                    "epochs_done": None if phase.epochs is None else phase.epochs_done,
                    "epochs_total": phase.epochs_total,
                }
                for phase in self.phases
            ],
            "running": [trial.document(self.spec.metric) for trial in self.running],
            "work": [item.model_dump() for item in self.condition.work],
            "failed": asdict(self.failed),
            "retried": asdict(self.retried),
            "dense": None if self.dense is None else self.dense.public(),
            "fidelity": None if self.fidelity is None else self.fidelity.value,
            "best": best,
            "front_size": self.front_size,
            "hypervolume": self.hypervolume,
        }


def _running(view: StudyView, phases: Sequence[Phase], *, now: float) -> list[RunningTrial]:
    epochs = {phase.fidelity: phase.epochs for phase in phases}
    with_schedule = set(BEST_FIRST)
    return [
        RunningTrial(
            number=trial.number,
            attempt=trial.attempt,
            label=trial.label,
            schedule=view.schedule_text(trial) if trial.fidelity in with_schedule else "",
            epochs_done=trial.epochs_done,
            epochs=epochs.get(trial.fidelity),
            metric=trial.metrics.get(view.spec.metric.name),
            seconds=max(0.0, now - (view.times_of(trial).started_at or now)),
        )
        for trial in view.trials
        if trial.state is TrialState.RUNNING
    ]


def _trouble(count: int, last: int | None, view: StudyView) -> Trouble:
    trial = next((trial for trial in view.trials if trial.number == last), None)
    return Trouble(count, None if trial is None else f"trial {trial.number}: {trial.reason or 'unknown reason'}")

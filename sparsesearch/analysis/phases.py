"""The phases of a study and their progress."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.analysis.view import StudyView
from sparsesearch.budget.study_baselines import num_baselines
from sparsesearch.study.digest import StudyDigest
from sparsesearch.study.learned_counts import counted_schedules
from sparsesearch.study.spec import FidelitySpec, Strategy, StudySpec
from sparsesearch.study.trial import Fidelity, TrialState

PHASE_NAMES = {
    Fidelity.DENSE: "dense",
    Fidelity.SUPERNET_TRAINING: "supernet",
    Fidelity.COUNTS: "token counts",
    Fidelity.UNTRAINED: "search",
    Fidelity.SUPERNET: "search",
    Fidelity.RESCORED: "re-scoring",
    Fidelity.FINETUNE: "fine-tuning",
}


_NUM_RESCORED = 24
_RACED_PER_FINALIST = 2

SCREENED_AT: dict[Strategy, Fidelity] = {
    "supernet": Fidelity.SUPERNET,
    "finetune": Fidelity.FINETUNE,
    "training-free": Fidelity.UNTRAINED,
}
"""The fidelity at which each strategy evaluates proposals first."""


def num_rescored(fidelity: FidelitySpec, *, num_more_images: int) -> int:
    """Return how many searched schedules, the nearest to the front, are evaluated on other images as well.

    Args:
        fidelity: How candidates are evaluated.
        num_more_images: The images for it, if finalists are chosen among these schedules.
    """
    if fidelity.strategy == "finetune":
        return 0
    if not fidelity.finalists:
        return min(_NUM_RESCORED, fidelity.evaluations)
    return min(_RACED_PER_FINALIST * fidelity.finalists, fidelity.evaluations) if num_more_images else 0


@dataclass(frozen=True)
class Phase:
    """The trials of one fidelity. A phase starts when the previous one is over.

    Attributes:
        fidelity: The fidelity of its trials.
        done: Number of trials that have ended, in any state.
        total: Expected number of trials; once the phase is over, the actual number.
        running: Number of running trials.
        epochs: Epochs per trial; None for evaluations without training.
        epochs_done: Epochs completed over all its trials; a trial that has ended counts in full.
        is_over: Whether no more trials will follow.
    """

    fidelity: Fidelity
    done: int
    total: int
    running: int
    epochs: int | None
    epochs_done: int
    is_over: bool

    @property
    def name(self) -> str:
        """Its display name."""
        return PHASE_NAMES[self.fidelity]

    @property
    def epochs_total(self) -> int | None:
        """Epochs over all its trials; None for evaluations without training."""
        return None if self.epochs is None else self.epochs * self.total

    @property
    def share(self) -> float:
        """The completed fraction, in [0, 1]."""
        if self.is_over or self.total == 0:
            return 1.0
        return self.epochs_done / (self.epochs * self.total) if self.epochs else self.done / self.total


def study_phases(view: StudyView, digest: StudyDigest, *, is_finished: bool) -> tuple[Phase, ...]:
    """The phases of a study in order.

    Args:
        view: The study, with at least its running trials.
        digest: All its trials in numbers.
        is_finished: Whether no more trials will follow.
    """
    wanted = _wanted(view.spec)
    begun = {one.fidelity for one in digest.counts}
    fidelities = list(wanted)
    phases = []
    for position, (fidelity, (total, epochs)) in enumerate(wanted.items()):
        running = [trial for trial in view.trials if trial.fidelity is fidelity and trial.state is TrialState.RUNNING]
        done = digest.number(fidelity=fidelity, where=lambda state: state.is_final)
        number = digest.number(fidelity=fidelity)
        is_over = is_finished or any(later in begun for later in fidelities[position + 1 :])
        phases.append(
            Phase(
                fidelity=fidelity,
                done=done,
                total=number if is_over else max(total, number),
                running=len(running),
                epochs=epochs,
                epochs_done=done * (epochs or 0) + sum(min(trial.epochs_done, epochs or 0) for trial in running),
                is_over=is_over,
            )
        )
    return tuple(phases)


def _wanted(spec: StudySpec) -> dict[Fidelity, tuple[int, int | None]]:
    """Planned number of trials of each phase, and epochs per trial."""
    fidelity, baselines = spec.fidelity, num_baselines(spec)
    screened = fidelity.evaluations + baselines
    wanted: dict[Fidelity, tuple[int, int | None]] = {Fidelity.DENSE: (1, fidelity.dense.epochs)}
    again = 1 if baselines else 0  # the dense model, with the same training
    counted = len(counted_schedules(spec))
    counts: dict[Fidelity, tuple[int, int | None]] = {Fidelity.COUNTS: (counted, 1)} if counted else {}
    if fidelity.strategy == "finetune":
        return wanted | counts | {Fidelity.FINETUNE: (screened + again, fidelity.finetune.epochs)}
    if fidelity.trains_supernet:
        wanted[Fidelity.SUPERNET_TRAINING] = (1, fidelity.supernet_training.epochs)
    wanted |= counts
    finalists = min(fidelity.finalists, fidelity.evaluations) + baselines + again
    wanted[SCREENED_AT[fidelity.strategy]] = screened, None
    rescored = num_rescored(fidelity, num_more_images=spec.resolved.num_more_images if spec.resolved else 0)
    if rescored:
        wanted[Fidelity.RESCORED] = rescored + (0 if fidelity.finalists else baselines), None
    if fidelity.finalists:
        wanted[Fidelity.FINETUNE] = finalists, fidelity.finetune.epochs
    return wanted

"""The phases of a study, and how far each is."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from sparsesearch.analysis.view import StudyView
from sparsesearch.budget.baselines import baseline_schedules
from sparsesearch.budget.price import study_price
from sparsesearch.budget.solve import check_budget
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.definition import SearchSpace
from sparsesearch.study.protocols import Price
from sparsesearch.study.spec import Budget, Strategy, StudySpec
from sparsesearch.study.trial import Fidelity, TrialState

PHASE_NAMES = {
    Fidelity.DENSE: "dense",
    Fidelity.SUPERNET_TRAINING: "supernet",
    Fidelity.UNTRAINED: "search",
    Fidelity.SUPERNET: "search",
    Fidelity.FINETUNE: "fine-tuning",
}


SCREENED_AT: dict[Strategy, Fidelity] = {
    "supernet": Fidelity.SUPERNET,
    "finetune": Fidelity.FINETUNE,
    "training-free": Fidelity.UNTRAINED,
}
"""At what fidelity proposals are evaluated first."""


@dataclass(frozen=True)
class Phase:
    """Trials of one fidelity. A phase begins when the one before it is over.

    Attributes:
        fidelity: Theirs.
        done: How many have ended, in whatever way.
        total: How many there will be, as far as can be told; once the phase is over, how many there were.
        running: How many are under way.
        epochs: Epochs of one trial; None for evaluations without a training.
        epochs_done: Epochs that nobody waits for any more, of all its trials.
        is_over: Whether no trial of it is to come.
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
        """What people call it."""
        return PHASE_NAMES[self.fidelity]

    @property
    def epochs_total(self) -> int | None:
        """Epochs of all its trials."""
        return None if self.epochs is None else self.epochs * self.total

    @property
    def share(self) -> float:
        """How much of it is done, in [0, 1]."""
        if self.is_over or self.total == 0:
            return 1.0
        return self.epochs_done / (self.epochs * self.total) if self.epochs else self.done / self.total


def study_phases(view: StudyView, *, is_finished: bool) -> tuple[Phase, ...]:
    """The phases of a study in their order.

    Args:
        view: The study.
        is_finished: Whether it wants no more trials.
    """
    wanted = _wanted(view.spec)
    begun = {trial.fidelity for trial in view.trials}
    fidelities = list(wanted)
    phases = []
    for position, (fidelity, (total, epochs)) in enumerate(wanted.items()):
        trials = [trial for trial in view.trials if trial.fidelity is fidelity]
        is_over = is_finished or any(later in begun for later in fidelities[position + 1 :])
        phases.append(
            Phase(
                fidelity=fidelity,
                done=sum(trial.state.is_final for trial in trials),
                total=len(trials) if is_over else max(total, len(trials)),
                running=sum(trial.state is TrialState.RUNNING for trial in trials),
                epochs=epochs,
                epochs_done=sum(
                    (epochs or 0) if trial.state.is_final else min(trial.epochs_done, epochs or 0) for trial in trials
                ),
                is_over=is_over,
            )
        )
    return tuple(phases)


def _wanted(spec: StudySpec) -> dict[Fidelity, tuple[int, int | None]]:
    """How many trials each phase is to have, and of how many epochs."""
    fidelity = spec.fidelity
    baselines = 0
    if spec.baselines and spec.resolved is not None:
        price = study_price(spec)
        baselines = _num_baselines(spec.resolved.geometry, spec.space, spec.budget, price)
    screened = fidelity.evaluations + baselines
    wanted: dict[Fidelity, tuple[int, int | None]] = {Fidelity.DENSE: (1, fidelity.dense.epochs)}
    if fidelity.strategy == "finetune":
        return wanted | {Fidelity.FINETUNE: (screened, fidelity.finetune.epochs)}
    if fidelity.trains_supernet:
        wanted[Fidelity.SUPERNET_TRAINING] = (1, fidelity.supernet_training.epochs)
    finalists = min(fidelity.finalists, fidelity.evaluations) + baselines
    return wanted | {
        SCREENED_AT[fidelity.strategy]: (screened, None),
        Fidelity.FINETUNE: (finalists, fidelity.finetune.epochs),
    }


@lru_cache(maxsize=64)
def _num_baselines(geometry: BackboneGeometry, space: SearchSpace, budget: Budget, price: Price | None) -> int:
    """Different hand-crafted schedules at the budgets of a study; some cannot reach a low one."""
    low, high = check_budget(geometry, space, budget=budget, price=price)
    baselines = baseline_schedules(geometry, space, low=low, high=high, price=price)
    return len({baseline.schedule.key(geometry) for baseline in baselines if baseline.schedule is not None})

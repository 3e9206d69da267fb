"""A whole study on made-up accuracies: real stages, costs and records, in milliseconds and without torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

from observing import Telling

from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.errors import StudyExistsError
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.search.controller import StagedController
from sparsesearch.seeds import derive_seed
from sparsesearch.study.events import Ended, Event, Measured
from sparsesearch.study.protocols import Controller, StudyStore
from sparsesearch.study.spec import Budget, DataSpec, FidelitySpec, Resolved, StudySpec, TrainSpec
from sparsesearch.study.trial import Fidelity, Measurement, Origin, Trial, TrialState

DEIT_SMALL = BackboneGeometry(
    name="deit_small_patch16_224",
    image_size=(224, 224),
    stages=(StageGeometry(depth=12, dim=384, attn_dim=384, num_heads=6, mlp_dim=1536, grid=(14, 14)),),
    stem_macs=196 * 768 * 384,
    head_macs=384 * 1000,
    params=22_050_664,
)


def sample_spec(
    name: str = "sample",
    *,
    evaluations: int = 12,
    finalists: int = 3,
    epochs: int = 2,
    meaningful: bool = True,
    source: str = "digits",
    seed: int = 0,
) -> StudySpec:
    """A prepared study of DeiT-S for budgets from 45 to 80 % of dense."""
    spec = StudySpec(
        name=name,
        backbone=DEIT_SMALL.name,
        budget=Budget(low=0.45, high=0.8),
        data=DataSpec(source=source),
        sampler="random",
        seed=seed,
        fidelity=FidelitySpec(
            evaluations=evaluations,
            finalists=finalists,
            finetune=TrainSpec(epochs=epochs),
        ),
        meaningful=meaningful,
    )
    return prepared(spec, DEIT_SMALL)


def prepared(spec: StudySpec, geometry: BackboneGeometry) -> StudySpec:
    """A study resolved for a backbone, without data or device."""
    resolved = Resolved(
        geometry=geometry,
        space=spec.space.resolve(geometry),
        num_classes=10,
        in_chans=3,
        data_fingerprint="0" * 32,
    )
    return spec.model_copy(update={"resolved": resolved})


class MadeUpEvaluator:
    """Accuracies from a formula: the more tokens late blocks see, the better.

    Args:
        stop_after: Raises KeyboardInterrupt when it is asked for one trial more.
    """

    def __init__(self, *, stop_after: int | None = None) -> None:
        self._left = stop_after

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Epochs of a training, or a single evaluation."""
        if self._left is not None:
            if self._left == 0:
                raise KeyboardInterrupt
            self._left -= 1
        epochs = {Fidelity.DENSE: 4, Fidelity.SUPERNET_TRAINING: 3, Fidelity.FINETUNE: 2}.get(trial.fidelity, 0)
        final = _accuracy(trial)
        for step in range(1, epochs + 1) if epochs else [0]:
            top1 = final - 0.03 * (epochs - step)
            metrics = {"val_top1": round(top1, 4), "val_loss": round(2 - 1.8 * top1, 4)}
            if epochs:
                metrics["train_loss"] = round(2.2 - 1.9 * top1, 4)
            measurement = Measurement(
                step=step,
                attempt=trial.attempt,
                fidelity=trial.fidelity,
                metrics=metrics,
                seconds=0.5,
                seed=trial.seed,
            )
            yield Measured(trial=trial.number, attempt=trial.attempt, measurement=measurement)
        state = TrialState.REFERENCE if trial.origin is Origin.REFERENCE else TrialState.COMPLETE
        yield Ended(trial=trial.number, attempt=trial.attempt, state=state)


def _accuracy(trial: Trial) -> float:
    if trial.schedule.is_dense:
        return 0.797
    noise = (derive_seed(trial.seed, trial.key) % 1000) / 1000
    loss = sum((1 - step.keep_ratio) ** 2 * (12 - step.block) / 12 for step in trial.schedule.steps)
    return 0.797 - 0.02 * loss - 0.006 * noise - (0.05 if trial.fidelity is Fidelity.SUPERNET else 0.0)


def run_sample(
    store: StudyStore,
    spec: StudySpec,
    *,
    stop_after: int | None = None,
    on_trial: Callable[[Trial], None] = lambda trial: None,
) -> None:
    """Create a study, or go on with it, and run it to its end or until it was interrupted.

    Args:
        store: Where it is recorded.
        spec: The study.
        stop_after: Interrupt it in this way after so many trials, leaving one RUNNING.
        on_trial: Called with each trial that ended.
    """
    try:
        writer = store.create_study(spec)
    except StudyExistsError:
        writer = store.open_study(spec.name)
    controller: Controller = StagedController(spec, DEIT_SMALL)
    try:
        InlineDispatcher(observer=Telling(on_trial)).run(controller, writer, MadeUpEvaluator(stop_after=stop_after))
    except KeyboardInterrupt:
        assert stop_after is not None
    finally:
        writer.close()


def ticking(start: float = 1_780_000_000.0, *, by: float = 0.25) -> Callable[[], float]:
    """A clock that moves on by itself at every look."""
    ticks = count()
    return lambda: start + by * next(ticks)

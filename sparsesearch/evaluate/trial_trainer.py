"""Train a trial epoch by epoch, with checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from time import perf_counter

from torch import Tensor, nn

from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.transforms import set_schedule_
from sparsesearch.data.task import ValPart
from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.evaluate.trial_checkpoints import WHOLE, Checkpoint, TrialCheckpoints, prefix_of
from sparsesearch.seeds import derive_seed
from sparsesearch.study.events import Event, Measured
from sparsesearch.study.hits import Hits
from sparsesearch.study.progress import Progress, advancing
from sparsesearch.study.stop import StopCause, StopToken
from sparsesearch.study.trial import Fidelity, Measurement, Origin, Trial
from sparsesearch.training.checkpoints import epoch_name
from sparsesearch.training.kinds import Training, TrainingContext
from sparsesearch.training.loop import Asked, TrainingRun, model_tensors
from sparsesearch.training.processes import Processes
from sparsesearch.training.scoring import EVAL_BATCH, Accumulator, eval_batch, evaluate_model
from sparsesearch.training.step_files import StepFiles

_NUM_INTERIM_BATCHES = 4
VALIDATED_ON: ValPart = "confirm"
"""The images on which trained models are validated."""


class TrialTrainer:
    """Runs the trainings of one study, in one or several processes.

    Args:
        context: Backbone, data, device and precision.
        checkpoints: The checkpoints of the study's trials.
        deadline: Stops trainings that would exceed the time budget.
        progress: Displays the progress of epochs.
        stop: Ends a training between two steps.
        processes: The processes that train together; the first one reports and writes.
    """

    def __init__(
        self,
        context: TrainingContext,
        checkpoints: TrialCheckpoints,
        *,
        deadline: Deadline,
        progress: Progress,
        stop: StopToken,
        processes: Processes,
    ) -> None:
        self._context = context
        self._checkpoints = checkpoints
        self._deadline = deadline
        self._progress = progress
        self._stop = stop
        self._processes = processes

    def train(self, trial: Trial, training: Training) -> Iterator[Event]:
        """Train epoch by epoch; each epoch is reported, and checkpointed once the report is recorded.

        Each checkpoint stores whether it is whole: neither this training nor the dense one before it was stopped early.
        """
        spec, processes = training.spec, self._processes
        run = TrainingRun(
            training.model,
            spec,
            steps_per_epoch=training.steps_per_epoch,
            arithmetic=self._context.arithmetic,
            processes=processes,
        )
        files = self._checkpoints.between_epochs(trial)
        found = self._checkpoints.latest(trial, label=training.label) if processes.is_first else None
        tensors = processes.tensors_from_first(lambda: _newest(found, files))
        if tensors and "epochs_done" not in tensors:
            load_weights_(training.model, tensors, source="the last checkpoint")
            return
        if tensors:
            run.restore(tensors)
        is_whole = processes.is_first and (self._starts_whole(trial) if found is None else bool(found[1][WHOLE]))

        def save() -> None:
            if processes.is_first:
                files.save(run.state(), epoch=run.epochs_done, step=run.steps_done)

        while run.epochs_done < spec.epochs:
            epoch = run.epochs_done + 1
            started = perf_counter()
            seed = derive_seed(trial.seed, "epoch", epoch)
            label = f"{training.label}, epoch {epoch} of {spec.epochs}"
            steps, batch_size = training.steps_per_epoch, spec.batch_size
            with self._progress.bar(label, steps, trial=trial.number, batch_size=batch_size) as bar:
                if run.steps_done:
                    bar.advance(run.steps_done)
                loss = run.epoch(
                    training.batches(epoch, first_step=run.steps_done, share=processes.share),
                    training.objective,
                    seed=seed,
                    bar=bar,
                    ask=lambda: self._asked(trial.fidelity, is_due=files.is_due),
                    save=save,
                )
            if loss is None:
                self._stop.raise_if_set()
                raise AssertionError("a training ends between two steps only if it is asked to stop")
            if processes.is_first:
                last = epoch == spec.epochs
                evaluated = self.validate(training.model, trial, whole=last)
                metrics = {"train_loss": loss, **evaluated.metrics("val")}
                hits = evaluated.hits(VALIDATED_ON) if last else None
                yield measured(trial, epoch, metrics, hits=hits, seconds=perf_counter() - started)
                final_name = trial.fidelity.value if trial.origin is Origin.REFERENCE else prefix_of(trial)
                yield from self._checkpoints.replace(
                    trial,
                    model_tensors(run.state()) if last else run.state(),
                    step=epoch,
                    name=final_name if last else epoch_name(prefix_of(trial), epoch),
                    whole=is_whole and not self._deadline.has_cut,
                )
            processes.wait()

    def _starts_whole(self, trial: Trial) -> bool:
        """Whether the training that a training starts from was not stopped early."""
        if trial.fidelity is not Fidelity.SUPERNET_TRAINING:
            return True
        return bool(self._checkpoints.start(Fidelity.DENSE)[1][WHOLE])

    def _asked(self, fidelity: Fidelity, *, is_due: bool) -> Asked:
        """What is asked of a training between two steps; the first process asks for all.

        Raises:
            StoppedError: The lease is lost: nothing that follows could be stored.
        """
        if not self._processes.is_first:
            return Asked()
        if self._stop.cause is StopCause.LEASE_LOST:
            self._stop.raise_if_set()
        return Asked(stop=self._stop.check(), cut=self._deadline.cuts(fidelity), save=is_due)

    def validate(self, model: nn.Module, trial: Trial, *, whole: bool) -> Accumulator:
        """Predictions under the trial's schedule; on part of the images unless `whole`."""
        if trial.fidelity is not Fidelity.DENSE:
            set_schedule_(model, trial.schedule)
        size = eval_batch(self._context.geometry)
        batches = self._context.task.val(VALIDATED_ON, batch_size=size)
        some = islice(batches, -(-_NUM_INTERIM_BATCHES * EVAL_BATCH // size))
        num_batches = -(-self._context.task.num_val // size)
        total = num_batches if whole else min(num_batches, -(-_NUM_INTERIM_BATCHES * EVAL_BATCH // size))
        with self._progress.bar("validating", total, trial=trial.number) as bar:
            chosen = advancing(batches if whole else some, bar)
            return evaluate_model(model, chosen, arithmetic=self._context.arithmetic)


def measured(
    trial: Trial, step: int, metrics: dict[str, float], *, seconds: float, hits: Hits | None = None
) -> Measured:
    """The event of a measurement, with the hits of the trial if it is the last."""
    measurement = Measurement(
        step=step, attempt=trial.attempt, fidelity=trial.fidelity, metrics=metrics, seconds=seconds, seed=trial.seed
    )
    return Measured(trial=trial.number, attempt=trial.attempt, measurement=measurement, hits=hits)


def _newest(between: Checkpoint | None, files: StepFiles) -> dict[str, Tensor]:
    """The tensors of the newest checkpoint, between two epochs or within one; empty if there is none."""
    tensors = {} if between is None else between[0]
    if tensors and "epochs_done" not in tensors:
        return tensors
    return files.newest(after=(int(tensors["epochs_done"]) if tensors else 0, 0)) or tensors

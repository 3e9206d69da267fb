"""Evaluate trials: dense reference, supernet training, supernet evaluations, fine-tunings."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from functools import cached_property
from itertools import islice
from time import perf_counter

from torch import Tensor, nn

from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.transforms import set_schedule_
from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.evaluate.joint_scorer import JointScorer
from sparsesearch.evaluate.reference_keys import reference_keys
from sparsesearch.evaluate.trial_checkpoints import WHOLE, Checkpoint, TrialCheckpoints, prefix_of
from sparsesearch.seeds import derive_seed
from sparsesearch.study.events import Ended, Event, Measured
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import Evaluator
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.stop import StopCause, StopToken
from sparsesearch.study.trial import Fidelity, FinalState, Measurement, Origin, Trial, TrialState
from sparsesearch.training.cache import TrainingCache
from sparsesearch.training.checkpoints import CheckpointFolder, epoch_name
from sparsesearch.training.kinds import (
    Training,
    TrainingContext,
    dense_training,
    given_dense_model,
    load_dense_part,
    sparse_training,
    supernet_training,
)
from sparsesearch.training.loop import Asked, NonFiniteLossError, TrainingRun, model_tensors
from sparsesearch.training.processes import Processes
from sparsesearch.training.scoring import EVAL_BATCH, eval_batch, evaluate_model
from sparsesearch.training.step_files import StepFiles
from sparsesearch.training.teacher import Teacher

_NUM_INTERIM_BATCHES = 4


class StudyEvaluator:
    """Evaluates the trials of one study; see `protocols.Evaluator`.

    Args:
        spec: The study.
        context: Backbone, data, device and precision.
        folder: Folder of the study's checkpoints.
        cache: Finished trainings that studies share.
        deadline: Stops trainings that would exceed the time budget.
        progress: Displays the progress of long computations.
        stop: Ends a training between two steps.
        processes: The processes that train together; None for this one alone. Each of them evaluates the same trial,
            and only the first one's events count.
    """

    def __init__(
        self,
        spec: StudySpec,
        *,
        context: TrainingContext,
        folder: CheckpointFolder,
        cache: TrainingCache,
        deadline: Deadline,
        progress: Progress,
        stop: StopToken | None = None,
        processes: Processes | None = None,
    ) -> None:
        assert spec.resolved is not None, "only prepared studies are run"
        self._spec = spec
        self._stop = stop or StopToken()
        self._processes = processes or Processes()
        self._space = spec.resolved.space
        self._context = context
        self._checkpoints = TrialCheckpoints(folder, study=spec.name, progress=progress)
        self._cache = cache
        self._deadline = deadline
        self._progress = progress

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run a trial to its end, continuing after its recorded measurements."""
        self._checkpoints.builds_on = trial.builds_on
        try:
            match trial.fidelity:
                case Fidelity.SUPERNET | Fidelity.UNTRAINED:
                    scorer = self._supernet if trial.fidelity is Fidelity.SUPERNET else self._untrained
                    metrics, seconds = scorer.score(trial)
                    yield self._measured(trial, 0, metrics, seconds=seconds)
                case Fidelity.FINETUNE:
                    yield from self._train(trial, self._finetune(trial))
                case _:
                    yield from self._reference(trial)
        except NonFiniteLossError as error:
            yield Ended(trial=trial.number, attempt=trial.attempt, state=TrialState.FAILED, reason=str(error))
            return
        done: FinalState = TrialState.REFERENCE if trial.origin is Origin.REFERENCE else TrialState.COMPLETE
        yield Ended(trial=trial.number, attempt=trial.attempt, state=done)

    def _reference(self, trial: Trial) -> Iterator[Event]:
        """Run a training that all other trials build on, or take its result from the cache or from the weights."""
        is_first = self._processes.is_first
        key = self._keys[trial.fidelity]
        has_result = is_first and (yield from self._from_cache(trial, key))
        if self._processes.from_first(lambda: has_result):
            return
        training = (
            self._supernet_training(trial) if trial.fidelity is Fidelity.SUPERNET_TRAINING else self._dense(trial)
        )
        if training is None:
            if is_first:
                yield from self._given(trial)
            return
        history = {m.step: m.metrics for m in trial.measurements}
        for event in self._train(trial, training):
            if isinstance(event, Measured):
                history.setdefault(event.measurement.step, event.measurement.metrics)
            yield event
        if is_first and self._checkpoints.document(trial.fidelity)[WHOLE]:
            device = self._context.arithmetic.device
            self._cache.keep(key, training.model.state_dict(), history=sorted(history.items()), device=device)

    def _from_cache(self, trial: Trial, key: str) -> Generator[Event, None, bool]:
        """Take the result of a reference from the cache; whether it is there."""
        device = self._context.arithmetic.device
        stored = self._cache.find(key, measure=lambda tensors: self._measure(trial, tensors), device=device)
        if stored is None:
            return False
        for step, metrics in stored.history:
            yield self._measured(trial, step, metrics, seconds=0.0)
        last = stored.history[-1][0]
        yield from self._checkpoints.replace(trial, stored.tensors, step=last, name=trial.fidelity.value, whole=True)
        return True

    def _given(self, trial: Trial) -> Iterator[Event]:
        """Take over weights that need no training."""
        started = perf_counter()
        model, metrics = given_dense_model(self._context, weights=self._spec.weights)
        yield self._measured(trial, 0, metrics, seconds=perf_counter() - started)
        yield from self._checkpoints.replace(trial, model.state_dict(), step=0, name=trial.fidelity.value, whole=True)

    def _measure(self, trial: Trial, tensors: Mapping[str, Tensor]) -> dict[str, float]:
        """Validation metrics of the weights of a reference."""
        is_dense = trial.fidelity is Fidelity.DENSE
        with self._progress.bar(f"validating the stored {trial.fidelity.training_name}", None, trial=trial.number):
            model = self._context.model_with(tensors) if is_dense else self._supernet_model(tensors)
            return self._validate(model, trial, whole=True)

    def _train(self, trial: Trial, training: Training) -> Iterator[Event]:
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
                metrics = {"train_loss": loss, **self._validate(training.model, trial, whole=last)}
                yield self._measured(trial, epoch, metrics, seconds=perf_counter() - started)
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

    def _validate(self, model: nn.Module, trial: Trial, *, whole: bool) -> dict[str, float]:
        """Validation metrics under the trial's schedule; on part of the images unless `whole`."""
        if trial.fidelity is not Fidelity.DENSE:
            set_schedule_(model, trial.schedule)
        size = eval_batch(self._context.geometry)
        batches = self._context.task.val("confirm", batch_size=size)
        some = islice(batches, -(-_NUM_INTERIM_BATCHES * EVAL_BATCH // size))
        accumulator = evaluate_model(model, batches if whole else some, arithmetic=self._context.arithmetic)
        return accumulator.metrics("val")

    def _dense(self, trial: Trial) -> Training | None:
        return dense_training(self._context, self._spec.fidelity.dense, weights=self._spec.weights, seed=trial.seed)

    def _supernet_training(self, trial: Trial) -> Training:
        return supernet_training(
            self._context,
            self._spec.fidelity.supernet_training,
            space=self._space,
            dense=self._checkpoints.start(Fidelity.DENSE)[0],
            teacher=self._teacher,
            seed=trial.seed,
        )

    def _finetune(self, trial: Trial) -> Training:
        source = Fidelity.SUPERNET_TRAINING if self._spec.fidelity.trains_supernet else Fidelity.DENSE
        return sparse_training(
            self._context,
            self._spec.fidelity.finetune,
            schedule=trial.schedule,
            start=self._checkpoints.start(source)[0],
            teacher=self._teacher,
            seed=trial.seed,
            label=f"fine-tuning {trial.schedule.describe(self._context.geometry)}",
        )

    @cached_property
    def _keys(self) -> dict[Fidelity, str]:
        return reference_keys(self._spec, arithmetic=self._context.arithmetic)

    @cached_property
    def _teacher(self) -> Teacher:
        model = self._context.model_with(self._checkpoints.start(Fidelity.DENSE)[0])
        fidelity = self._spec.fidelity
        training = fidelity.supernet_training if fidelity.trains_supernet else fidelity.finetune
        uses = training.epochs * (training.images_per_epoch or self._context.task.num_train)
        return Teacher(
            model,
            self._context.task,
            arithmetic=self._context.arithmetic,
            use_pool=uses >= self._context.task.num_train,
        )

    @cached_property
    def _supernet(self) -> JointScorer:
        return self._scorer_of(self._supernet_model(self._checkpoints.start(Fidelity.SUPERNET_TRAINING)[0]))

    @cached_property
    def _untrained(self) -> JointScorer:
        model = self._context.supernet_model(self._space)
        load_dense_part(model, self._checkpoints.start(Fidelity.DENSE)[0])
        return self._scorer_of(model)

    def _scorer_of(self, model: nn.Module) -> JointScorer:
        return JointScorer(model, self._spec, context=self._context, progress=self._progress, stop=self._stop)

    def _supernet_model(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        model = self._context.supernet_model(self._space)
        load_weights_(model, tensors, source="the checkpoint of the supernet")
        return model

    def _measured(self, trial: Trial, step: int, metrics: dict[str, float], *, seconds: float) -> Measured:
        measurement = Measurement(
            step=step, attempt=trial.attempt, fidelity=trial.fidelity, metrics=metrics, seconds=seconds, seed=trial.seed
        )
        return Measured(trial=trial.number, attempt=trial.attempt, measurement=measurement)


def _newest(between: Checkpoint | None, files: StepFiles) -> dict[str, Tensor]:
    """The tensors of the newest checkpoint, between two epochs or within one; empty if there is none."""
    tensors = {} if between is None else between[0]
    if tensors and "epochs_done" not in tensors:
        return tensors
    return files.newest(after=(int(tensors["epochs_done"]) if tensors else 0, 0)) or tensors


_: type[Evaluator] = StudyEvaluator

"""Evaluate trials: dense reference, supernet training, supernet evaluations, fine-tunings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from time import perf_counter

from torch import Tensor, nn

from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.transforms import set_schedule_
from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.seeds import derive_seed
from sparsesearch.study.events import Checkpointed, Ended, Event, Measured
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import Evaluator
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.stop import StopToken, while_leased
from sparsesearch.study.trial import Fidelity, FinalState, Measurement, Origin, Trial, TrialState
from sparsesearch.training.cache import StoredTraining, TrainingCache, dense_key, supernet_key
from sparsesearch.training.checkpoints import CheckpointFolder
from sparsesearch.training.kinds import (
    Training,
    TrainingContext,
    dense_training,
    given_dense_model,
    load_dense_part,
    sparse_training,
    supernet_training,
)
from sparsesearch.training.loop import NonFiniteLossError, TrainingRun, model_tensors
from sparsesearch.training.scoring import EVAL_BATCH, PrefixCachedScorer, evaluate_model
from sparsesearch.training.teacher import Teacher

_NUM_INTERIM_BATCHES = 4
_WHOLE = "whole"


class StudyEvaluator:
    """Evaluates the trials of one study; see `protocols.Evaluator`.

    Args:
        spec: The study.
        context: Backbone, data, device and precision.
        folder: Folder of the study's checkpoints.
        cache: Finished trainings that studies share.
        deadline: Stops trainings that would exceed the time budget.
        progress: Displays the progress of long computations.
        stop: Ends a training between two steps if the lease is lost; None if another process watches the lease.
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
    ) -> None:
        assert spec.resolved is not None, "only prepared studies are run"
        self._spec = spec
        self._stop = stop or StopToken()
        self._space = spec.resolved.space
        self._context = context
        self._folder = folder
        self._cache = cache
        self._deadline = deadline
        self._progress = progress

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run a trial to its end, continuing after its recorded measurements."""
        try:
            match trial.fidelity:
                case Fidelity.SUPERNET | Fidelity.UNTRAINED:
                    scorer = self._supernet if trial.fidelity is Fidelity.SUPERNET else self._untrained
                    started = perf_counter()
                    metrics = scorer.score(trial.schedule)
                    yield self._measured(trial, 0, metrics, seconds=perf_counter() - started)
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
        """Run a training that all other trials build on, or take its result from the cache."""
        key = self._dense_key if trial.fidelity is Fidelity.DENSE else self._supernet_key
        stored = self._cache.find(key)
        if stored is not None:
            for step, metrics in self._history(trial, stored):
                yield self._measured(trial, step, metrics, seconds=0.0)
            last = stored.history[-1][0]
            yield from self._replace_checkpoint(trial, stored.tensors, step=last, name=trial.fidelity.value, whole=True)
            return
        training = (
            self._supernet_training(trial) if trial.fidelity is Fidelity.SUPERNET_TRAINING else self._dense(trial)
        )
        if training is None:
            started = perf_counter()
            model, metrics = given_dense_model(self._context, weights=self._spec.weights)
            yield self._measured(trial, 0, metrics, seconds=perf_counter() - started)
            yield from self._replace_checkpoint(
                trial, model.state_dict(), step=0, name=trial.fidelity.value, whole=True
            )
            return
        history = {m.step: m.metrics for m in trial.measurements}
        for event in self._train(trial, training):
            if isinstance(event, Measured):
                history.setdefault(event.measurement.step, event.measurement.metrics)
            yield event
        if self._folder.document(trial.fidelity.value)[_WHOLE]:
            self._cache.keep(key, training.model.state_dict(), history=sorted(history.items()))

    def _history(self, trial: Trial, stored: StoredTraining) -> list[tuple[int, dict[str, float]]]:
        """History of a cached training; the last entry is re-evaluated if the number of validation images differs."""
        *earlier, (last, metrics) = stored.history
        if metrics["val_images"] == self._context.task.num_val:
            return stored.history
        if trial.fidelity is Fidelity.DENSE:
            model = self._context.model_with(stored.tensors)
        else:
            model = self._supernet_model(stored.tensors)
        return [*earlier, (last, {**metrics, **self._validate(model, trial, whole=True)})]

    def _train(self, trial: Trial, training: Training) -> Iterator[Event]:
        """Train epoch by epoch; each epoch is reported, and checkpointed once the report is recorded.

        Each checkpoint stores whether it is whole: neither this training nor the dense one before it was stopped early.
        """
        context, spec = self._context, training.spec
        run = TrainingRun(training.model, spec, steps_per_epoch=training.steps_per_epoch, arithmetic=context.arithmetic)
        if trial.checkpoint is not None and self._folder.holds(trial.checkpoint):
            tensors, document = self._folder.load(trial.checkpoint)
            self._folder.remove_others(prefix=_prefix(trial), keep=trial.checkpoint)
            if trial.checkpoint.step == spec.epochs:
                load_weights_(training.model, tensors, source=trial.checkpoint.uri)
                return
            run.restore(tensors)
        else:
            if trial.checkpoint is not None:
                self._progress.line(f"the checkpoint {trial.checkpoint.uri} is missing; restarting {training.label}")
            is_supernet_training = trial.fidelity is Fidelity.SUPERNET_TRAINING
            document = self._folder.document(Fidelity.DENSE.value) if is_supernet_training else {_WHOLE: True}
        while run.epochs_done < spec.epochs:
            epoch = run.epochs_done + 1
            started = perf_counter()
            seed = derive_seed(trial.seed, "epoch", epoch)
            label = f"{training.label}, epoch {epoch} of {spec.epochs}"
            steps, batch_size = training.steps_per_epoch, spec.batch_size
            with self._progress.bar(label, steps, trial=trial.number, batch_size=batch_size) as bar:
                batches = while_leased(self._stop, self._deadline.limit(trial.fidelity, training.batches(epoch)))
                loss = run.epoch(batches, training.objective, seed=seed, bar=bar)
            last = epoch == spec.epochs
            metrics = {"train_loss": loss, **self._validate(training.model, trial, whole=last)}
            yield self._measured(trial, epoch, metrics, seconds=perf_counter() - started)
            final_name = trial.fidelity.value if trial.origin is Origin.REFERENCE else _prefix(trial)
            yield from self._replace_checkpoint(
                trial,
                model_tensors(run.state()) if last else run.state(),
                step=epoch,
                name=final_name if last else f"{_prefix(trial)}-epoch-{epoch:03d}",
                whole=bool(document[_WHOLE]) and not self._deadline.has_cut,
            )

    def _replace_checkpoint(
        self,
        trial: Trial,
        tensors: dict[str, Tensor],
        *,
        step: int,
        name: str,
        whole: bool,
    ) -> Iterator[Event]:
        ref = self._folder.save(name, tensors, step=step, metadata={_WHOLE: whole})
        yield Checkpointed(trial=trial.number, attempt=trial.attempt, checkpoint=ref)
        self._folder.remove_others(prefix=_prefix(trial), keep=ref)

    def _validate(self, model: nn.Module, trial: Trial, *, whole: bool) -> dict[str, float]:
        """Validation metrics under the trial's schedule; on part of the images unless `whole`."""
        if trial.fidelity is not Fidelity.DENSE:
            set_schedule_(model, trial.schedule)
        batches = self._context.task.val("confirm", batch_size=EVAL_BATCH)
        accumulator = evaluate_model(
            model, batches if whole else islice(batches, _NUM_INTERIM_BATCHES), arithmetic=self._context.arithmetic
        )
        return accumulator.metrics("val")

    def _dense(self, trial: Trial) -> Training | None:
        return dense_training(self._context, self._spec.fidelity.dense, weights=self._spec.weights, seed=trial.seed)

    def _supernet_training(self, trial: Trial) -> Training:
        return supernet_training(
            self._context,
            self._spec.fidelity.supernet_training,
            space=self._space,
            dense=self._folder.read(Fidelity.DENSE.value),
            teacher=self._teacher,
            seed=trial.seed,
        )

    def _finetune(self, trial: Trial) -> Training:
        source = Fidelity.SUPERNET_TRAINING if self._spec.fidelity.trains_supernet else Fidelity.DENSE
        return sparse_training(
            self._context,
            self._spec.fidelity.finetune,
            schedule=trial.schedule,
            start=self._folder.read(source.value),
            teacher=self._teacher,
            seed=trial.seed,
            label=f"fine-tuning {trial.schedule.describe(self._context.geometry)}",
        )

    @cached_property
    def _dense_key(self) -> str:
        return dense_key(
            geometry=self._context.geometry,
            weights=self._spec.weights,
            data_fingerprint=self._context.task.fingerprint,
            training=self._spec.fidelity.dense,
            seed=self._spec.seed,
            dtype=self._context.arithmetic.dtype,
        )

    @cached_property
    def _supernet_key(self) -> str:
        return supernet_key(
            self._dense_key, space=self._space, training=self._spec.fidelity.supernet_training, seed=self._spec.seed
        )

    @cached_property
    def _teacher(self) -> Teacher:
        model = self._context.model_with(self._folder.read(Fidelity.DENSE.value))
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
    def _supernet(self) -> PrefixCachedScorer:
        return self._scorer_of(self._supernet_model(self._folder.read(Fidelity.SUPERNET_TRAINING.value)))

    @cached_property
    def _untrained(self) -> PrefixCachedScorer:
        model = self._context.supernet_model(self._space)
        load_dense_part(model, self._folder.read(Fidelity.DENSE.value))
        return self._scorer_of(model)

    def _scorer_of(self, model: nn.Module) -> PrefixCachedScorer:
        batches = self._context.task.val("screen", batch_size=EVAL_BATCH)
        return PrefixCachedScorer(model, batches, arithmetic=self._context.arithmetic)

    def _supernet_model(self, tensors: dict[str, Tensor]) -> nn.Module:
        model = self._context.supernet_model(self._space)
        load_weights_(model, tensors, source="the checkpoint of the supernet")
        return model

    def _measured(self, trial: Trial, step: int, metrics: dict[str, float], *, seconds: float) -> Measured:
        measurement = Measurement(
            step=step, attempt=trial.attempt, fidelity=trial.fidelity, metrics=metrics, seconds=seconds, seed=trial.seed
        )
        return Measured(trial=trial.number, attempt=trial.attempt, measurement=measurement)


def _prefix(trial: Trial) -> str:
    return f"trial-{trial.number:05d}"


_: type[Evaluator] = StudyEvaluator

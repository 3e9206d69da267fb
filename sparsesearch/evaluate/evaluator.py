"""Evaluate trials: dense reference, supernet training, supernet evaluations, fine-tunings."""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping
from functools import cached_property
from time import perf_counter

from torch import Tensor, nn

from sparsesearch.backbones.load_weights import load_weights_
from sparsesearch.backbones.transforms import attach_
from sparsesearch.budget.study_baselines import baseline_families
from sparsesearch.data.task import ValPart
from sparsesearch.evaluate.deadline import Deadline
from sparsesearch.evaluate.joint_scorer import JointScorer
from sparsesearch.evaluate.reference_keys import reference_keys
from sparsesearch.evaluate.study_counts import study_counts
from sparsesearch.evaluate.trial_checkpoints import WHOLE, TrialCheckpoints
from sparsesearch.evaluate.trial_trainer import VALIDATED_ON, TrialTrainer, measured
from sparsesearch.study.events import Ended, Event, Measured
from sparsesearch.study.learned_counts import LearnedCounts
from sparsesearch.study.progress import Progress
from sparsesearch.study.protocols import Evaluator
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.stop import StopToken
from sparsesearch.study.trial import Fidelity, FinalState, Origin, Trial, TrialState
from sparsesearch.training.cache import TrainingCache
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
from sparsesearch.training.loop import NonFiniteLossError
from sparsesearch.training.processes import Processes
from sparsesearch.training.scoring import Accumulator
from sparsesearch.training.teacher import Teacher


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
        self._progress = progress
        self._last_scorer: tuple[Fidelity, JointScorer] | None = None
        self._trainer = TrialTrainer(
            context,
            self._checkpoints,
            deadline=deadline,
            progress=progress,
            stop=self._stop,
            processes=self._processes,
        )

    def evaluate(self, trial: Trial) -> Iterator[Event]:
        """Run a trial to its end, continuing after its recorded measurements."""
        self._checkpoints.builds_on = trial.builds_on
        try:
            match trial.fidelity:
                case Fidelity.SUPERNET | Fidelity.UNTRAINED | Fidelity.RESCORED:
                    found = self._scorer(trial.fidelity).score(trial)
                    yield measured(trial, 0, found.metrics, hits=found.hits, seconds=found.seconds)
                case Fidelity.COUNTS:
                    started = perf_counter()
                    learned = self._counts(trial)
                    yield measured(trial, 1, learned.metrics(), seconds=perf_counter() - started)
                case Fidelity.FINETUNE:
                    yield from self._trainer.train(trial, self._finetune(trial))
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
        for event in self._trainer.train(trial, training):
            if isinstance(event, Measured):
                history.setdefault(event.measurement.step, event.measurement.metrics)
            yield event
        if is_first and self._checkpoints.document(trial.fidelity)[WHOLE]:
            device = self._context.arithmetic.device
            self._cache.keep(key, training.model.state_dict(), history=sorted(history.items()), device=device)

    def _from_cache(self, trial: Trial, key: str) -> Generator[Event, None, bool]:
        """Take the result of a reference from the cache; whether it is there."""
        device = self._context.arithmetic.device
        found: list[Accumulator] = []

        def measure(tensors: Mapping[str, Tensor]) -> dict[str, float]:
            found.append(self._measure(trial, tensors))
            return found[-1].metrics("val")

        stored = self._cache.find(key, measure=measure, device=device)
        if stored is None:
            return False
        last = stored.history[-1][0]
        for step, metrics in stored.history:
            hits = found[-1].hits(VALIDATED_ON) if found and step == last else None
            yield measured(trial, step, metrics, hits=hits, seconds=0.0)
        yield from self._checkpoints.replace(trial, stored.tensors, step=last, name=trial.fidelity.value, whole=True)
        return True

    def _given(self, trial: Trial) -> Iterator[Event]:
        """Take over weights that need no training."""
        started = perf_counter()
        model, evaluated = given_dense_model(
            self._context, weights=self._spec.weights, progress=self._progress, trial=trial.number
        )
        hits = evaluated.hits(VALIDATED_ON)
        yield measured(trial, 0, evaluated.metrics("val"), hits=hits, seconds=perf_counter() - started)
        yield from self._checkpoints.replace(trial, model.state_dict(), step=0, name=trial.fidelity.value, whole=True)

    def _measure(self, trial: Trial, tensors: Mapping[str, Tensor]) -> Accumulator:
        """Predictions with the weights of a reference."""
        is_dense = trial.fidelity is Fidelity.DENSE
        with self._progress.bar(f"validating the stored {trial.fidelity.training_name}", None, trial=trial.number):
            model = self._context.model_with(tensors) if is_dense else self._supernet_model(tensors)
            return self._trainer.validate(model, trial, whole=True)

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

    def _counts(self, trial: Trial) -> LearnedCounts:
        """Learn the token counts of a method through the weights that schedules are evaluated with."""
        return study_counts(
            self._ranking_model(),
            self._spec,
            schedule=trial.schedule,
            seed=trial.seed,
            context=self._context,
            teacher=self._teacher,
            progress=self._progress,
            stop=self._stop,
            trial=trial.number,
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

    def _scorer(self, fidelity: Fidelity) -> JointScorer:
        """The scorer of a fidelity. Only the last one is kept: it holds states of all images."""
        if self._last_scorer is None or self._last_scorer[0] is not fidelity:
            self._last_scorer = None
            scorer = JointScorer(
                self._ranking_model(),
                self._spec,
                part=self._part(fidelity),
                context=self._context,
                progress=self._progress,
                stop=self._stop,
            )
            self._last_scorer = fidelity, scorer
        return self._last_scorer[1]

    def _part(self, fidelity: Fidelity) -> ValPart:
        """The images of an evaluation without training."""
        if fidelity is not Fidelity.RESCORED:
            return "screen"
        return "more" if self._spec.fidelity.finalists else "confirm"

    def _ranking_model(self) -> nn.Module:
        """The model on which schedules are ranked without training."""
        if self._spec.fidelity.trains_supernet:
            return self._supernet_model(self._checkpoints.start(Fidelity.SUPERNET_TRAINING)[0])
        return self._untrained_model()

    def _untrained_model(self) -> nn.Module:
        model = self._context.supernet_model(self._space)
        if self._spec.baselines:
            families, _ = baseline_families(self._spec.fidelity.strategy, self._context.geometry, self._space)
            steps = [step for family in families for step in family.shape.steps]
            attach_(model, [(step.stage, step.block, step.phase, step.scorer, step.reducer) for step in steps])
        load_dense_part(model, self._checkpoints.start(Fidelity.DENSE)[0])
        return model

    def _supernet_model(self, tensors: Mapping[str, Tensor]) -> nn.Module:
        model = self._context.supernet_model(self._space)
        load_weights_(model, tensors, source="the checkpoint of the supernet")
        return model


_: type[Evaluator] = StudyEvaluator

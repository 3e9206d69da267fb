"""Trials in parallel on Ray: trainings as Ray Tune trials, quick evaluations on warm actors."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ray import tune

from sparsesearch.dispatch.actors import ActorPool
from sparsesearch.dispatch.cluster import Room, joined
from sparsesearch.dispatch.interrupt import Interrupt
from sparsesearch.dispatch.lease_keeper import LeaseKeeper
from sparsesearch.dispatch.rungs import open_rungs
from sparsesearch.dispatch.storage_probe import check_shared
from sparsesearch.dispatch.trial_queue import OnTrial, TrialQueue, is_training
from sparsesearch.dispatch.tune_scheduler import RecordingScheduler
from sparsesearch.dispatch.tune_searcher import ControllerSearcher, RunCallback
from sparsesearch.dispatch.tune_trainable import StudyTrial
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.study.protocols import Controller, Dispatcher, Evaluator, StudyWriter
from sparsesearch.study.spec import ResourceSpec
from sparsesearch.study.trial import Trial

logger = logging.getLogger(__name__)


def _ignore(trial: Trial) -> None:
    return


def _say_nothing() -> None:
    return


class RayDispatcher:
    """See `protocols.Dispatcher`. The evaluator must be a `PortableEvaluator`.

    Failed and lost executions are tried again from the trial's last checkpoint; a failure that the evaluator itself
    reports (a loss that is not finite) is a result and is not. Errors that every trial would meet (bad user input, a
    lost lease) end the run. Ctrl-C once lets the epochs under way end, be recorded and checkpointed, and then raises
    KeyboardInterrupt; a second one raises it at once.

    Ray holds no state worth keeping: a run goes on from the store alone.

    Args:
        resources: What trials may use.
        storage: Where checkpoints go; all machines must see it.
        uses_gpu: Whether the evaluator computes on a GPU.
        on_trial: Called with every trial after it was recorded in a final state.
        on_progress: Called with every trial after it was claimed, measured, or claimed for another attempt.
        on_stopping: Called after the first Ctrl-C.
    """

    def __init__(
        self,
        resources: ResourceSpec,
        *,
        storage: Path,
        uses_gpu: bool = False,
        on_trial: OnTrial = _ignore,
        on_progress: OnTrial = _ignore,
        on_stopping: Callable[[], None] = _say_nothing,
    ) -> None:
        self._resources = resources
        self._storage = storage
        self._uses_gpu = uses_gpu
        self._on_trial = on_trial
        self._on_progress = on_progress
        self._on_stopping = on_stopping

    def run(self, controller: Controller, writer: StudyWriter, evaluator: Evaluator) -> None:
        """Until the controller wants no more trials; unfinished trials of the store first.

        Raises:
            ClusterError: Ray cannot be started or joined, has no room for a trial, or does not share the storage.
            KeyboardInterrupt: Ctrl-C was pressed.
        """
        if not isinstance(evaluator, PortableEvaluator):
            raise TypeError(f"workers open their evaluators themselves: give a PortableEvaluator, not {evaluator!r}")
        with LeaseKeeper(writer), joined(self._resources.ray_address) as nodes:
            room = Room.of(nodes, self._resources, uses_gpu=self._uses_gpu)
            check_shared(self._storage, nodes)
            queue = TrialQueue(
                controller,
                writer,
                max_retries=self._resources.max_retries,
                on_trial=self._on_trial,
                on_progress=self._on_progress,
            )
            with Interrupt() as interrupt:
                callback = RunCallback(queue, interrupt, self._on_stopping)
                while (upcoming := queue.upcoming()) is not None:
                    if is_training(upcoming):
                        self._train(queue, writer, evaluator, room, callback)
                    else:
                        pool = ActorPool(evaluator, size=room.concurrent, share=room.trial)
                        with closing(pool):
                            pool.work(queue, look=callback.look)
            if queue.stopping:
                raise KeyboardInterrupt

    def _train(
        self,
        queue: TrialQueue,
        writer: StudyWriter,
        evaluator: PortableEvaluator,
        room: Room,
        callback: RunCallback,
    ) -> None:
        """Have Ray Tune run trainings until the queue has none to take and none is under way."""
        rungs = open_rungs(writer.spec, writer.trials())
        with tempfile.TemporaryDirectory(prefix="sparsesearch-tune-") as scratch:
            tuner = tune.Tuner(
                StudyTrial,
                tune_config=tune.TuneConfig(
                    search_alg=ControllerSearcher(queue, evaluator, room),
                    scheduler=RecordingScheduler(queue, rungs),
                    num_samples=-1,
                    max_concurrent_trials=room.concurrent,
                    reuse_actors=True,
                    trial_name_creator=_name,
                    trial_dirname_creator=_name,
                ),
                run_config=tune.RunConfig(
                    name=writer.spec.name,
                    storage_path=scratch,
                    callbacks=[callback],
                    failure_config=tune.FailureConfig(max_failures=0),
                    checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=0, checkpoint_at_end=False),
                    verbose=0,
                ),
            )
            try:
                tuner.fit()
            except Exception as error:
                raise (queue.fatal or error) from error
            if queue.fatal is not None:  # Tune swallows some errors
                raise queue.fatal


def _name(trial: tune.experiment.trial.Trial) -> str:
    return str(trial.trial_id)


_: type[Dispatcher] = RayDispatcher

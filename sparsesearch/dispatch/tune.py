"""Run trials in parallel on Ray: trainings as Ray Tune trials, quick evaluations on warm actors.

What all other trials build on runs alone, in as many processes as there are GPUs, with Ray Train.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, closing
from functools import partial
from pathlib import Path

from ray import tune

from sparsesearch.dispatch.actors import ActorPool
from sparsesearch.dispatch.allocation import Allocation, DeviceKind, Node, device_of_trials
from sparsesearch.dispatch.cluster import Cluster, joined
from sparsesearch.dispatch.fault_pause import FaultPause
from sparsesearch.dispatch.rungs import open_rungs
from sparsesearch.dispatch.storage_probe import check_shared
from sparsesearch.dispatch.train_group import train_together
from sparsesearch.dispatch.trial_queue import TrialQueue, is_training
from sparsesearch.dispatch.tune_scheduler import RecordingScheduler
from sparsesearch.dispatch.tune_searcher import ControllerSearcher, RunCallback
from sparsesearch.dispatch.tune_trainable import StudyTrial
from sparsesearch.dispatch.worker_watch import WorkerWatch
from sparsesearch.errors import ClusterError, InfrastructureError
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.evaluate.stop_file import StopFile
from sparsesearch.study.observer import NoObserver, StudyObserver
from sparsesearch.study.progress import Progress, Silent, WorkProgress
from sparsesearch.study.protocols import Controller, Dispatcher, Done, Evaluator, StudyWriter
from sparsesearch.study.spec import ResourceSpec
from sparsesearch.study.stop import StopCause, StopToken
from sparsesearch.study.trial import Trial

logger = logging.getLogger(__name__)


class RayDispatcher:
    """Runs trials in parallel on Ray; see `protocols.Dispatcher`. The evaluator must be a `PortableEvaluator`.

    Failed and lost executions are retried from the trial's last checkpoint; a failure that the evaluator itself reports
    (such as a non-finite loss) is a result and is not retried. Faults of disks, networks and machines are no failures:
    the run pauses, and the trials go on when they have passed. Errors that every trial would raise (invalid user input,
    a lost lease) end the run. When it is to stop, trainings write a checkpoint after the current step; if the lease is
    lost, it ends at once.

    Ray keeps no state: a run resumes from the store alone.

    Args:
        resources: The resources that the study requests.
        storage: Folder for checkpoints, shared by all machines.
        device: The device of the study: `auto`, `cpu` or `cuda[:N]`; workers have it, this machine need not.
        observer: Told every stored change of a trial.
        stop: Stops the run.
        stop_file: Where the processes of the run look whether they are to stop; None if they stop after epochs.
        progress: Shows that Ray is starting.
        work: The progress of work in all processes.
        work_folder: Where processes say which trial they run; None not to look whether they hang.
        pause: Waits for faults of disks, networks and machines to pass; None to end the run with them.
    """

    def __init__(
        self,
        resources: ResourceSpec,
        *,
        storage: Path,
        device: str = "auto",
        observer: StudyObserver | None = None,
        stop: StopToken | None = None,
        stop_file: StopFile | None = None,
        progress: Progress | None = None,
        work: Callable[[], Sequence[WorkProgress]] = tuple,
        work_folder: Path | None = None,
        pause: FaultPause | None = None,
    ) -> None:
        self._resources = resources
        self._storage = storage
        self._device = device
        self._observer = observer or NoObserver()
        self._stop = stop or StopToken()
        self._stop_file = stop_file
        self._progress = progress or Silent()
        self._pause = pause or FaultPause()
        self._watch = (
            None if work_folder is None else WorkerWatch(work_folder, work, timeout_s=resources.worker_timeout_s)
        )

    def run(self, controller: Controller, writer: StudyWriter, evaluator: Evaluator) -> Done:
        """Run trials until the controller is done; unfinished trials of the store run first.

        Raises:
            ClusterError: Ray is not available, lacks resources for a trial, or its machines do not share the storage.
            StoppedError: The token was set.
        """
        if not isinstance(evaluator, PortableEvaluator):
            raise TypeError(f"evaluator must be a PortableEvaluator, which workers can open; got {evaluator!r}")
        is_first = True
        while True:
            with ExitStack() as stack:
                try:
                    with self._progress.bar("starting Ray", None):
                        cluster = stack.enter_context(self._joined())
                except ClusterError as error:
                    if is_first:
                        raise
                    fault = InfrastructureError(str(error))
                else:
                    queue = TrialQueue(
                        controller,
                        writer,
                        max_retries=self._resources.max_retries,
                        observer=self._observer,
                        stop=self._stop,
                        stop_file=self._stop_file,
                        pause=self._pause,
                        watch=partial(self._look, cluster),
                        cluster_fault=cluster.fault,
                    )
                    try:
                        return self._run(queue, writer, evaluator, cluster)
                    except Exception as error:
                        found = cluster.fault_behind(error)
                        if found is None:
                            raise
                        fault = found
                        queue.lose_all(fault)
            is_first = False
            self._pause.wait(fault)

    def _joined(self) -> AbstractContextManager[Cluster]:
        return joined(
            self._resources.ray_address, device=self._device, on_hang=lambda: self._stop.stop(StopCause.FAULT)
        )

    def _look(self, cluster: Cluster, running: Mapping[int, Trial]) -> None:
        if self._watch is not None:
            self._watch.look(cluster.nodes, running)

    def _run(self, queue: TrialQueue, writer: StudyWriter, evaluator: PortableEvaluator, cluster: Cluster) -> Done:
        """Run trials on the machines of a cluster, as they come and go."""
        nodes, allocation = list[Node](), None
        while (upcoming := queue.upcoming()) is not None or queue.wait_for_fault():
            if upcoming is None:
                continue
            if allocation is None or nodes != cluster.nodes:
                try:
                    nodes = cluster.nodes
                    device, allocation = self._allocate(nodes, writer)
                except (ClusterError, InfrastructureError) as error:
                    if allocation is None and isinstance(error, ClusterError):
                        raise
                    self._pause.wait(InfrastructureError(str(error)))
                    nodes = []
                    continue
                evaluator = evaluator.on(device)
            if upcoming.fidelity.runs_alone and allocation.workers > 1:
                train_together(queue, evaluator, allocation, storage=self._storage)
            elif is_training(upcoming):
                self._train(queue, writer, evaluator, allocation)
            else:
                pool = ActorPool(
                    evaluator,
                    size=allocation.concurrent,
                    resources=allocation.trial,
                    batch=writer.spec.proposal_batch,
                )
                with closing(pool):
                    pool.work(queue, while_true=partial(cluster.consists_of, nodes))
        if self._stop_file is not None:
            self._stop_file.remove()
        if queue.done is None:
            self._stop.raise_if_set()
        assert queue.done is not None, "the controller waits for a result, but no trial is running"
        return queue.done

    def _allocate(self, nodes: list[Node], writer: StudyWriter) -> tuple[DeviceKind, Allocation]:
        """Return the device of the trials, and how the resources of machines are allocated to them.

        Raises:
            ClusterError: They lack resources for a trial, or do not share the storage.
            InfrastructureError: One of them does not answer.
        """
        device = device_of_trials(self._device, nodes, self._resources)
        fidelity = writer.spec.fidelity
        batch_size = min(fidelity.dense.batch_size, fidelity.supernet_training.batch_size)
        allocation = Allocation.of(nodes, self._resources, uses_gpu=device == "cuda", batch_size=batch_size)
        check_shared(self._storage, nodes)
        return device, allocation

    def _train(
        self,
        queue: TrialQueue,
        writer: StudyWriter,
        evaluator: PortableEvaluator,
        allocation: Allocation,
    ) -> None:
        """Run trainings with Ray Tune until the queue has none left and none is running."""
        rungs = open_rungs(writer.spec, writer.trials())
        with tempfile.TemporaryDirectory(prefix="sparsesearch-tune-") as scratch:
            tuner = tune.Tuner(
                StudyTrial,
                tune_config=tune.TuneConfig(
                    search_alg=ControllerSearcher(queue, evaluator, allocation),
                    scheduler=RecordingScheduler(queue, rungs),
                    num_samples=-1,
                    max_concurrent_trials=allocation.concurrent,
                    reuse_actors=True,
                    trial_name_creator=_name,
                    trial_dirname_creator=_name,
                ),
                run_config=tune.RunConfig(
                    name=writer.spec.name,
                    storage_path=scratch,
                    callbacks=[RunCallback(queue)],
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

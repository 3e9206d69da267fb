"""Retrain a recipe in several processes on Ray."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import torch
import torch.distributed as dist

from sparsesearch.app.retrain import Follow, Retrained, retrain
from sparsesearch.app.retraining_log import EpochRow
from sparsesearch.app.signals import stopping_on_signals
from sparsesearch.artifacts.recipe import Recipe
from sparsesearch.data.loader_workers import limit_cores
from sparsesearch.dispatch.allocation import Allocation
from sparsesearch.dispatch.cluster import joined
from sparsesearch.dispatch.process_group import Report, run_together
from sparsesearch.evaluate.stop_file import StopFile
from sparsesearch.evaluate.work_files import WorkFiles
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.settings import Settings
from sparsesearch.study.progress import Bar, Progress, Silent
from sparsesearch.study.spec import ResourceSpec
from sparsesearch.study.stop import StoppedError, StopToken
from sparsesearch.study.work_board import WorkBoard


def retrain_on_ray(
    recipe: Recipe,
    path: Path,
    *,
    settings: Settings,
    board: WorkBoard,
    device: str = "auto",
    restart: bool = False,
    workers: int | None = None,
    ray_address: str | None = None,
    follow: Follow | None = None,
) -> Retrained:
    """Retrain in a process on each GPU of a Ray cluster, or in several processes on CPUs; see `retrain`.

    Args:
        recipe: What to train.
        path: Output safetensors file; in a folder that all machines share.
        settings: Where shared trainings are.
        board: Reports progress.
        device: `auto`, `cpu` or `cuda`.
        restart: Whether to begin anew, without the checkpoints of an earlier call.
        workers: Number of processes; None for one on each GPU, or one on CPUs.
        ray_address: Address of a cluster; None to start Ray on this machine.
        follow: Told of every epoch.

    Raises:
        ClusterError: Ray is not available, or lacks resources.
        ProcessGroupError: A process failed or died; the same call goes on from the last checkpoint.
        StoppedError: Ctrl-C or SIGTERM; everything up to the last step is kept.
        UserInputError: As `retrain` raises it.
    """
    path = path.absolute()
    shared = path.with_name(f".{path.name}.ray")
    stop, run = StopToken(), uuid4().hex
    stop_file = StopFile(shared, run=run)
    board.include(WorkFiles(shared).read)
    with ExitStack() as stack:
        with board.bar("starting Ray", None):
            nodes = stack.enter_context(joined(ray_address)).nodes
        uses_gpu = device != "cpu" and any(node.gpus for node in nodes)
        allocation = Allocation.of(
            nodes,
            ResourceSpec(workers_per_training=workers),
            uses_gpu=uses_gpu,
            batch_size=recipe.training.batch_size,
        )
        threads = allocation.reference.threads
        job = _Job(recipe, path, settings, shared, run, device=device, restart=restart, threads=threads)
        stack.callback(shutil.rmtree, shared, ignore_errors=True)
        stack.enter_context(stopping_on_signals(stop, at_once=False))
        found: Retrained | None = None
        for report in run_together(
            _retrain, job, workers=allocation.workers, resources=allocation.reference, storage=shared
        ):
            if stop.check() and stop.cause is not None:
                stop_file.write(stop.cause)
            match report:
                case Retrained():
                    found = report
                case _Epochs() if follow is not None:
                    follow(report.recipe, report.geometry, report.rows)
                case str():
                    board.line(report)
        if found is None:
            stop.raise_if_set()
        assert found is not None, "the first process reports what it has trained"
        return found


@dataclass(frozen=True)
class _Epochs:
    recipe: Recipe
    geometry: BackboneGeometry
    rows: Sequence[EpochRow]


@dataclass(frozen=True)
class _Job:
    recipe: Recipe
    path: Path
    settings: Settings
    shared: Path
    run: str
    device: str
    restart: bool
    threads: int


def _retrain(job: _Job, report: Report) -> None:
    """Retrain in one of the processes."""
    torch.set_num_threads(job.threads)
    limit_cores(job.threads)
    progress: Progress = _Reporting(job.shared, report) if dist.get_rank() == 0 else Silent()
    try:
        trained = retrain(
            job.recipe,
            job.path,
            settings=job.settings,
            progress=progress,
            device=job.device,
            restart=job.restart,
            stop=StopFile(job.shared, run=job.run).token(),
            follow=lambda recipe, geometry, rows: report(_Epochs(recipe, geometry, tuple(rows))),
        )
    except StoppedError:
        return
    report(trained)


class _Reporting:
    """Writes bars to files that the driver reads, and sends lines to it."""

    def __init__(self, folder: Path, report: Report) -> None:
        self._bars = WorkFiles(folder)
        self._report = report

    def bar(self, label: str, total: int | None, *, trial: int | None = None, batch_size: int | None = None) -> Bar:
        """See `Progress`."""
        return self._bars.bar(label, total, trial=trial, batch_size=batch_size)

    def line(self, text: str) -> None:
        """See `Progress`."""
        self._report(text)

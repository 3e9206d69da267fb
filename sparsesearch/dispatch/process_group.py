"""Run a function in several processes of a Ray cluster, which `torch.distributed` connects, with Ray Train."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Empty, Queue

from sparsesearch.dispatch.allocation import TrialResources
from sparsesearch.dispatch.lost_machine import lost_machine
from sparsesearch.errors import InfrastructureError, SparseSearchError, UserInputError, one_line

Report = Callable[[Any], None]
"""Sends a value from the first process to the driver, and waits until it is taken; does nothing in the others."""

_POLL_SECONDS = 0.5
_WORK, _ARGUMENT, _REPORTS, _TAKEN = "work", "argument", "reports", "taken"


class ProcessGroupError(SparseSearchError):
    """A process of a group failed or died, which ended the others."""


def run_together(
    work: Callable[[Any, Report], None], argument: Any, *, workers: int, resources: TrialResources, storage: Path
) -> Iterator[Any]:
    """Call `work(argument, report)` in each of several processes.

    Args:
        work: A function at the top level of a module.
        argument: Its argument, which must be picklable.
        workers: Number of processes.
        resources: Resources of each process.
        storage: Folder shared by all machines.

    Yields:
        What the first process reports, one after the other; None when it has reported nothing for a while.

    Raises:
        UserInputError: A process raised it.
        InfrastructureError: Likewise.
        ProcessGroupError: A process raised something else, or died.
    """
    reports, taken = (Queue(actor_options={"num_cpus": 0}) for _ in range(2))
    storage.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ray-train-", dir=storage, ignore_cleanup_errors=True) as scratch:
        fit = _Fit(
            TorchTrainer(
                _work,
                train_loop_config={_WORK: work, _ARGUMENT: argument, _REPORTS: reports, _TAKEN: taken},
                torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
                scaling_config=ScalingConfig(
                    num_workers=workers, use_gpu=resources.gpus > 0, resources_per_worker=resources.bundle
                ),
                run_config=RunConfig(storage_path=scratch, failure_config=FailureConfig(max_failures=0)),
            )
        )
        fit.start()
        while True:
            is_over = not fit.is_alive()
            try:
                report = reports.get(timeout=_POLL_SECONDS)
            except Empty:
                if is_over:
                    break
                yield None
                continue
            yield report
            taken.put(True)
    for queue in (reports, taken):
        queue.shutdown()
    if fit.error is not None:
        _raise(fit.error)


def _work(config: dict[str, Any]) -> None:
    """Call the function in one of the processes."""
    device = get_device()
    if device.type == "cuda":
        import torch

        torch.cuda.set_device(device)
    is_first = get_context().get_world_rank() == 0

    def report(value: Any) -> None:
        if is_first:
            config[_REPORTS].put(value)
            config[_TAKEN].get()

    config[_WORK](config[_ARGUMENT], report)


class _Fit(threading.Thread):
    """Runs a trainer to its end in a thread, so that this process can take what it reports.

    Attributes:
        error: How it failed; None if it has not.
    """

    def __init__(self, trainer: TorchTrainer) -> None:
        super().__init__(daemon=True)
        self._trainer = trainer
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            self._trainer.fit()
        except Exception as error:
            self.error = error


def _raise(error: Exception) -> None:
    """Raise how a group failed: what its processes raised, without the traces of other processes."""
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        if isinstance(failure, UserInputError | InfrastructureError):
            raise failure
    reasons = {one_line(failure): None for _, failure in sorted(failures.items())} or {one_line(error): None}
    fault = lost_machine("\n".join(str(failure) for failure in (error, *failures.values())))
    if fault is not None:
        raise fault from error
    raise ProcessGroupError("; ".join(reasons)) from error

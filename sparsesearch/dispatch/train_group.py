"""A training in several processes of the cluster, with Ray Train."""

from __future__ import annotations

import tempfile
import threading
from pathlib import Path
from typing import Any

from ray.train import FailureConfig, RunConfig, ScalingConfig, get_context
from ray.train.torch import TorchConfig, TorchTrainer, get_device
from ray.util.queue import Empty, Queue

from sparsesearch.dispatch.cluster import TrialResources
from sparsesearch.dispatch.messages import Failed, Happened, Job, Refused, read_report
from sparsesearch.dispatch.trial_queue import TrialQueue
from sparsesearch.dispatch.worker import Worker
from sparsesearch.errors import UserInputError, one_line
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.study.trial import Trial

_POLL_SECONDS = 0.5
_JOB, _REPORTS, _RECORDED = "job", "reports", "recorded"


def train_together(
    queue: TrialQueue, evaluator: PortableEvaluator, *, workers: int, resources: TrialResources, storage: Path
) -> None:
    """Run the next trial of a queue in several processes that train together.

    Every process evaluates the trial; the events of the first one are recorded, each before that process goes on.

    Args:
        queue: The trials of the run; the next one is a training.
        evaluator: The evaluator of the processes.
        workers: Number of processes.
        resources: Resources of each process.
        storage: Folder shared by all machines.

    Raises:
        UserInputError: A process raised an error that every trial would raise.
        StoppedError: The lease is lost.
    """
    trial = queue.take(training=True)
    assert trial is not None, "only called for a training that is due"
    reports, recorded = (Queue(actor_options={"num_cpus": 0}) for _ in range(2))
    job = Job(trial=trial, evaluator=evaluator, threads=resources.threads)
    storage.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".ray-train-", dir=storage, ignore_cleanup_errors=True) as scratch:
        fit = _Fit(
            TorchTrainer(
                _work,
                train_loop_config={_JOB: job.to_json(), _REPORTS: reports, _RECORDED: recorded},
                torch_config=TorchConfig(backend="nccl" if resources.gpus else "gloo"),
                scaling_config=ScalingConfig(
                    num_workers=workers,
                    use_gpu=resources.gpus > 0,
                    resources_per_worker={"CPU": resources.cpus} | ({"GPU": resources.gpus} if resources.gpus else {}),
                ),
                run_config=RunConfig(storage_path=scratch, failure_config=FailureConfig(max_failures=0)),
            )
        )
        fit.start()
        while True:
            _ = queue.stopping
            try:
                text = reports.get(timeout=_POLL_SECONDS)
            except Empty:
                if not fit.is_alive():
                    break
                continue
            report = read_report(text)
            assert isinstance(report, Happened)
            queue.record(report.event)
            recorded.put(True)
        if fit.error is not None:
            queue.note_failure(trial.number, attempt=trial.attempt, reason=_reason(fit.error))
        _release(queue, trial)
        for ended in (reports, recorded):
            ended.shutdown()


def _release(queue: TrialQueue, trial: Trial) -> None:
    queue.release(trial.number)
    queue.announce(trial.number)


class _Fit(threading.Thread):
    """Runs a trainer to its end in a thread, so that this process can record what it reports.

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


def _work(config: dict[str, Any]) -> None:
    """Evaluate the trial in one of the processes."""
    if get_device().type == "cuda":
        import torch

        torch.cuda.set_device(get_device())
    worker = Worker()
    worker.begin(Job.from_json(config[_JOB]))
    is_first = get_context().get_world_rank() == 0
    while True:
        report = worker.report()
        if isinstance(report, Refused):
            raise report.to_error()
        if isinstance(report, Failed):
            raise RuntimeError(report.reason)
        if not isinstance(report, Happened):
            return
        if is_first:
            config[_REPORTS].put(report.to_json())
            config[_RECORDED].get()
        if report.event.kind == "ended":
            return


def _reason(error: Exception) -> str:
    """Why a group of processes failed.

    Raises:
        UserInputError: One of them raised it.
    """
    failures: dict[int, Exception] = getattr(error, "worker_failures", {})
    for failure in failures.values():
        if isinstance(failure, UserInputError):
            raise failure
    reasons = {one_line(failure): None for _, failure in sorted(failures.items())} or {one_line(error): None}
    return "; ".join(reasons)

"""Warm actors for quick evaluations: each loads the shared weights once, then evaluates one schedule per call."""

from __future__ import annotations

from typing import Any

import ray

from sparsesearch.dispatch.allocation import TrialResources
from sparsesearch.dispatch.messages import Failed, Happened, Job, Refused, read_report
from sparsesearch.dispatch.trial_queue import TrialQueue
from sparsesearch.dispatch.worker import Worker
from sparsesearch.errors import one_line
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.study.trial import Trial

_POLL_SECONDS = 0.5


class EvaluationActor:
    """A worker in its own process."""

    def __init__(self) -> None:
        self._worker = Worker()

    def work(self, job: str) -> list[str]:
        """Return all reports of a job at once, which is possible since evaluations write no checkpoints."""
        self._worker.begin(Job.from_json(job))
        reports: list[str] = []
        while True:
            report = self._worker.report()
            reports.append(report.to_json())
            if not isinstance(report, Happened) or report.event.kind == "ended":
                return reports


class ActorPool:
    """Evaluates trials on warm actors. Not thread-safe; used only by the driver's thread.

    Args:
        evaluator: The evaluator of the actors.
        size: Number of actors.
        resources: Resources of each actor.
    """

    def __init__(self, evaluator: PortableEvaluator, *, size: int, resources: TrialResources) -> None:
        self._evaluator = evaluator
        self._resources = resources
        self._make = ray.remote(EvaluationActor).options(num_cpus=resources.cpus, num_gpus=resources.gpus)
        self._free: list[Any] = [self._make.remote() for _ in range(size)]
        self._busy: dict[Any, tuple[Any, Trial]] = {}

    def work(self, queue: TrialQueue) -> None:
        """Evaluate until the queue has no evaluation left and none is running.

        Raises:
            UserInputError: A worker raised an error that every trial would raise.
            StoppedError: The lease is lost.
        """
        while True:
            _ = queue.stopping
            while self._free and (trial := queue.take(training=False)) is not None:
                self._submit(trial)
            if not self._busy:
                return
            done, _ = ray.wait(list(self._busy), num_returns=1, timeout=_POLL_SECONDS)
            for reference in done:
                self._finish(queue, reference)

    def close(self) -> None:
        """Stop the actors."""
        for actor in [*self._free, *(actor for actor, _ in self._busy.values())]:
            ray.kill(actor)
        self._free, self._busy = [], {}

    def _submit(self, trial: Trial) -> None:
        actor = self._free.pop()
        job = Job(trial=trial, evaluator=self._evaluator, threads=self._resources.threads)
        self._busy[actor.work.remote(job.to_json())] = (actor, trial)

    def _finish(self, queue: TrialQueue, reference: Any) -> None:
        actor, trial = self._busy.pop(reference)
        try:
            reports = [read_report(text) for text in ray.get(reference)]
        except ray.exceptions.RayError as error:
            reports = [Failed(reason=f"the worker process died: {one_line(error)}")]
        for report in reports:
            if isinstance(report, Refused):
                raise report.to_error()
            if isinstance(report, Failed):
                queue.note_failure(trial.number, attempt=trial.attempt, reason=report.reason)
                ray.kill(actor)
                actor = self._make.remote()
            elif isinstance(report, Happened):
                queue.record(report.event)
        self._free.append(actor)
        queue.release(trial.number)
        queue.announce(trial.number)

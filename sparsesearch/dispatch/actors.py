"""Warm actors for quick evaluations: each loads the shared weights once, then evaluates some trials per call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import ray

from sparsesearch.dispatch.allocation import TrialResources
from sparsesearch.dispatch.lost_machine import lost_machine
from sparsesearch.dispatch.messages import Failed, Faulted, Happened, Job, Refused, Report, read_report
from sparsesearch.dispatch.trial_queue import TrialQueue
from sparsesearch.dispatch.worker import Worker
from sparsesearch.errors import InfrastructureError, one_line
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.study.trial import Trial

_POLL_SECONDS = 0.5


class EvaluationActor:
    """A worker in its own process."""

    def __init__(self) -> None:
        self._worker = Worker()

    def ready(self) -> None:
        """Answer, which shows that the actor has its resources and has started."""

    def work(self, jobs: list[str]) -> list[list[str]]:
        """Return all reports of each job at once, which is possible since evaluations write no checkpoints.

        Jobs after one that failed are not begun, and have no reports.
        """
        found: list[list[str]] = []
        for job in jobs:
            self._worker.begin(Job.from_json(job))
            found.append([])
            while True:
                report = self._worker.report()
                found[-1].append(report.to_json())
                if not isinstance(report, Happened):
                    return found
                if report.event.kind == "ended":
                    break
        return found


class ActorPool:
    """Evaluates trials on warm actors. Not thread-safe; used only by the driver's thread.

    Actors get trials once they have started. On a cluster that several studies share, some may wait for cores that
    another study has; those that have started do all of the work then, so that no two studies wait for each other.

    Args:
        evaluator: The evaluator of the actors.
        size: Number of actors.
        resources: Resources of each actor.
        batch: Number of proposals that are made before their results are known, divided among the actors.
    """

    def __init__(self, evaluator: PortableEvaluator, *, size: int, resources: TrialResources, batch: int) -> None:
        self._evaluator = evaluator
        self._resources = resources
        self._make = ray.remote(EvaluationActor).options(num_cpus=resources.cpus, num_gpus=resources.gpus)
        self._free: list[Any] = []
        self._starting: dict[Any, Any] = {}
        for _ in range(size):
            self._start()
        self._busy: dict[Any, tuple[Any, list[Trial]]] = {}
        self._at_once = -(-batch // size)

    def work(self, queue: TrialQueue, *, while_true: Callable[[], bool] = lambda: True) -> None:
        """Evaluate until the queue has no evaluation left and none is running.

        Args:
            queue: The trials of the run.
            while_true: Whether the machines are still those that the actors were made for; otherwise an actor may never
                start, or not end, and the evaluations under way go back to the queue.

        Raises:
            UserInputError: A worker raised an error that every trial would raise.
            StoppedError: The lease is lost.
        """
        while True:
            _ = queue.stopping
            if not while_true():
                self._give_back(queue)
                return
            while self._free and (trials := queue.take_evaluations(self._at_once)):
                self._submit(trials)
            if self._free and not self._busy:
                return
            done, _ = ray.wait([*self._busy, *self._starting], num_returns=1, timeout=_POLL_SECONDS)
            for reference in done:
                if reference in self._starting:
                    self._free.append(self._starting.pop(reference))
                else:
                    self._finish(queue, reference)

    def close(self) -> None:
        """Stop the actors."""
        for actor in [*self._free, *self._starting.values(), *(actor for actor, _ in self._busy.values())]:
            ray.kill(actor)
        self._free, self._starting, self._busy = [], {}, {}

    def _start(self) -> None:
        actor = self._make.remote()
        self._starting[actor.ready.remote()] = actor  # type: ignore[attr-defined]

    def _give_back(self, queue: TrialQueue) -> None:
        for actor, trials in self._busy.values():
            ray.kill(actor)
            for trial in trials:
                queue.release(trial.number)
        self._busy = {}

    def _submit(self, trials: list[Trial]) -> None:
        actor = self._free.pop()
        threads = self._resources.threads
        jobs = [Job(trial=trial, evaluator=self._evaluator, threads=threads).to_json() for trial in trials]
        self._busy[actor.work.remote(jobs)] = (actor, trials)

    def _finish(self, queue: TrialQueue, reference: Any) -> None:
        actor, trials = self._busy.pop(reference)
        found: list[list[Report]]
        try:
            found = [[read_report(text) for text in reports] for reports in ray.get(reference)]
        except ray.exceptions.RayError as error:
            fault = lost_machine(str(error))
            if fault is None:
                found = [[Failed(reason=f"the worker process died: {one_line(error)}")] for _ in trials]
            else:
                found = []
                for trial in trials:
                    queue.note_fault(trial.number, attempt=trial.attempt, fault=fault, is_lost=True)
        for trial, reports in zip(trials, found, strict=False):  # without those that were not begun
            for report in reports:
                if isinstance(report, Refused):
                    raise report.to_error()
                if isinstance(report, Failed):
                    queue.note_failure(trial.number, attempt=trial.attempt, reason=report.reason)
                elif isinstance(report, Faulted):
                    queue.note_fault(trial.number, attempt=trial.attempt, fault=InfrastructureError(report.reason))
                elif isinstance(report, Happened):
                    queue.record(report.event)
        if not found or any(isinstance(report, Failed) for reports in found for report in reports):
            ray.kill(actor)
            self._start()
        else:
            self._free.append(actor)
        for trial in trials:
            queue.release(trial.number)
            queue.announce(trial.number)

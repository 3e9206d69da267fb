"""Execute jobs in a worker process, independently of Ray."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from sparsesearch.data.loader_workers import limit_cores
from sparsesearch.dispatch.beats import Beat
from sparsesearch.dispatch.failure_log import log_failure
from sparsesearch.dispatch.messages import Failed, Faulted, Happened, Job, Refused, Report, Stopped
from sparsesearch.errors import UserInputError
from sparsesearch.evaluate.portable import PortableEvaluator
from sparsesearch.infrastructure import infrastructure_fault
from sparsesearch.study.events import Event
from sparsesearch.study.stop import StoppedError


class Worker:
    """Executes one job at a time, and reuses the opened evaluator for further jobs of the same study."""

    def __init__(self) -> None:
        self._recipe: str | None = None
        self._evaluator: PortableEvaluator | None = None
        self._job: Job | None = None
        self._events: Iterator[Event] | None = None
        self._beat: tuple[Beat, Path] | None = None

    def begin(self, job: Job) -> None:
        """Start a job; the previous one is dropped."""
        recipe = job.evaluator.model_dump_json()
        if recipe != self._recipe:
            self._recipe, self._evaluator = recipe, job.evaluator
        self._job, self._events = job, None
        self._end_beat()
        if job.evaluator.work is not None:
            self._beat = Beat.here(job.trial.number, job.trial.attempt), Path(job.evaluator.work)
            self._beat[0].begin(self._beat[1])

    def report(self) -> Report:
        """Work until the next event. Call it only after the previous event is recorded; it may write the checkpoint."""
        found = self._report()
        if not isinstance(found, Happened) or found.event.kind == "ended":
            self._end_beat()
        return found

    def _end_beat(self) -> None:
        if self._beat is not None:
            self._beat[0].end(self._beat[1])
            self._beat = None

    def _report(self) -> Report:
        assert self._evaluator is not None, "call begin first"
        assert self._job is not None
        try:
            if self._events is None:
                self._evaluator.open()
                _limit_threads(self._job.threads)
                self._events = iter(self._evaluator.evaluate(self._job.trial))
            event = next(self._events, None)
        except StoppedError:
            return Stopped()
        except Exception as error:
            logs = None if self._evaluator.logs is None else Path(self._evaluator.logs)
            fault = infrastructure_fault(error, folders=() if logs is None else (logs.parent,))
            if fault is not None:
                return Faulted(reason=str(fault))
            if isinstance(error, UserInputError):
                return Refused.of(error)
            return Failed(reason=log_failure(error, self._job.trial, logs=logs))
        if event is None:
            return Failed(reason="the evaluator stopped without ending the trial")
        return Happened(event=event)


def _limit_threads(threads: int) -> None:
    """Set the number of threads of torch, if the evaluator has imported it, and of cores that loader processes use."""
    limit_cores(threads)
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)

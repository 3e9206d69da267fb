"""A training in several processes of the cluster."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.dispatch.allocation import Allocation
from sparsesearch.dispatch.messages import Failed, Faulted, Happened, Job, Refused, read_report
from sparsesearch.dispatch.process_group import ProcessGroupError, Report, run_together
from sparsesearch.dispatch.trial_queue import TrialQueue
from sparsesearch.dispatch.worker import Worker
from sparsesearch.errors import InfrastructureError
from sparsesearch.evaluate.portable import PortableEvaluator


def train_together(queue: TrialQueue, evaluator: PortableEvaluator, allocation: Allocation, *, storage: Path) -> None:
    """Run the next trial of a queue in several processes that train together.

    Every process evaluates the trial; the events of the first one are recorded, each before that process goes on.

    Args:
        queue: The trials of the run; the next one is a training.
        evaluator: The evaluator of the processes.
        allocation: Number and resources of the processes.
        storage: Folder shared by all machines.

    Raises:
        UserInputError: A process raised an error that every trial would raise.
        StoppedError: The lease is lost.
    """
    trial = queue.take(training=True)
    assert trial is not None, "only called for a training that is due"
    job = Job(trial=trial, evaluator=evaluator, threads=allocation.reference.threads)
    reports = run_together(
        _evaluate, job.to_json(), workers=allocation.workers, resources=allocation.reference, storage=storage
    )
    try:
        for text in reports:
            _ = queue.stopping
            if text is not None:
                report = read_report(text)
                assert isinstance(report, Happened), "a process raises what else it has to report"
                queue.record(report.event)
    except InfrastructureError as fault:
        queue.note_fault(trial.number, attempt=trial.attempt, fault=fault, is_lost=True)
    except ProcessGroupError as error:
        queue.note_failure(trial.number, attempt=trial.attempt, reason=str(error))
    queue.release(trial.number)
    queue.announce(trial.number)


def _evaluate(job: str, report: Report) -> None:
    """Evaluate the trial in one of the processes."""
    worker = Worker()
    worker.begin(Job.from_json(job))
    while True:
        found = worker.report()
        if isinstance(found, Refused):
            raise found.to_error()
        if isinstance(found, Faulted):
            raise InfrastructureError(found.reason)
        if isinstance(found, Failed):
            raise RuntimeError(found.reason)
        if not isinstance(found, Happened):
            return
        report(found.to_json())
        if found.event.kind == "ended":
            return

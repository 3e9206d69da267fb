"""The Ray Tune trainable: runs a trial on a worker, one report per step."""

from __future__ import annotations

from typing import Any

from ray import tune

from sparsesearch.dispatch.messages import Failed, Job, Refused
from sparsesearch.dispatch.worker import Worker

JOB, NUMBER, ATTEMPT, CPUS, GPUS, REPORT = "job", "number", "attempt", "cpus", "gpus", "report"


class StudyTrial(tune.Trainable):
    """One attempt of a trial. Tune requests the next step after the report of the previous one is recorded.

    No report sets `done`: the scheduler ends the trial, so that it also receives the last report first. Tune writes no
    checkpoints; the evaluator does.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Start the job of a new process."""
        self._worker = Worker()
        self._has_failed = False
        self._worker.begin(Job.from_json(config[JOB]))

    def step(self) -> dict[str, Any]:
        """Return the next report; after a failure, raise, so that the process ends."""
        if self._has_failed:
            raise RuntimeError("this worker reported a failure and must not be used again")
        report = self._worker.report()
        self._has_failed = isinstance(report, Failed | Refused)
        return {REPORT: report.to_json()}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Start another job in the same process."""
        self._worker.begin(Job.from_json(new_config[JOB]))
        return True

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """Return the resources of the job's trial."""
        bundle = {"CPU": config[CPUS]} | ({"GPU": config[GPUS]} if config[GPUS] else {})
        return tune.PlacementGroupFactory([bundle])

"""A trial on the side of Ray Tune's workers: one report a step."""

from __future__ import annotations

from typing import Any

from ray import tune

from sparsesearch.dispatch.messages import Happened, Job
from sparsesearch.dispatch.worker import Worker

JOB, NUMBER, ATTEMPT, CPUS, GPUS, REPORT = "job", "number", "attempt", "cpus", "gpus", "report"


class StudyTrial(tune.Trainable):
    """One attempt of a trial. Tune asks for the next step when the report of the one before is recorded.

    No report says `done`: the scheduler ends the trial, so that it is the first to see the last report as well. There
    are no checkpoints of Tune's; the evaluator writes ours.
    """

    def setup(self, config: dict[str, Any]) -> None:
        """Take up the job of a new process."""
        self._worker = Worker()
        self._is_spent = False
        self._worker.begin(Job.from_json(config[JOB]))

    def step(self) -> dict[str, Any]:
        """The next report; after one of a failure the process ends, whatever state the error has left it in."""
        if self._is_spent:
            raise RuntimeError("this worker reported a failure and must not be used again")
        report = self._worker.report()
        self._is_spent = not isinstance(report, Happened)
        return {REPORT: report.to_json()}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Take up another job in the same process."""
        self._worker.begin(Job.from_json(new_config[JOB]))
        return True

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> tune.PlacementGroupFactory:
        """What the job's trial may use."""
        bundle = {"CPU": config[CPUS]} | ({"GPU": config[GPUS]} if config[GPUS] else {})
        return tune.PlacementGroupFactory([bundle])

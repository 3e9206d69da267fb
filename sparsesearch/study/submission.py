"""What is known of a study because it was submitted to a service."""

from __future__ import annotations

from pydantic import Field

from sparsesearch.study.spec import StudySpec
from sparsesearch.value import Value


class Changes(Value):
    """What may be changed of a study that was submitted, also while it runs.

    Attributes:
        max_concurrent: Maximum number of concurrent trials; None leaves it as it is.
        time_budget_s: Time limit of the whole study in seconds; None leaves it as it is.
    """

    max_concurrent: int | None = Field(default=None, ge=1, le=10_000)
    time_budget_s: float | None = Field(default=None, gt=0.0, le=1e9)

    def applied(self, spec: StudySpec) -> StudySpec:
        """The study as it is to be executed."""
        if self.max_concurrent is not None:
            resources = spec.resources.model_copy(update={"max_concurrent": self.max_concurrent})
            spec = spec.model_copy(update={"resources": resources})
        if self.time_budget_s is not None:
            spec = spec.model_copy(update={"time_budget_s": self.time_budget_s})
        return spec


class Submission(Value):
    """A study in the queue of a service.

    Attributes:
        owner: Name of the token that submitted it.
        priority: Higher ones are run first.
        submitted_at: Unix time of the submission.
        not_before: Unix time before which it is not taken again, after a fault of what is around it.
        num_faults: Number of such faults since it last went on.
        changes: What was changed since.
        mlflow_page: Path of its run on the pages of MLflow; None if it is not there.
    """

    owner: str
    priority: int = 0
    submitted_at: float
    not_before: float = 0.0
    num_faults: int = 0
    changes: Changes = Changes()
    mlflow_page: str | None = None


class Claim(Value):
    """A study that a controller took from the queue.

    Attributes:
        study: Its name.
        lease: The owner of its lease, with which another process of the controller takes it over.
    """

    study: str
    lease: str


class AuditEntry(Value):
    """A change that somebody made.

    Attributes:
        number: Position in the trail.
        at: Unix time.
        who: Name of the token.
        action: What was done: `submit`, `pause`, `change`, ...
        what: What it was done to, for example the name of a study.
        before: Its state before, as far as it changed.
        after: Its state after that.
    """

    number: int
    at: float
    who: str
    action: str
    what: str
    before: str | None = None
    after: str | None = None

"""The state of a study as it is stored, and what other processes may request of it."""

from __future__ import annotations

from enum import StrEnum

from sparsesearch.study.progress import WorkProgress
from sparsesearch.value import Value


class StudyState(StrEnum):
    """The stored state of a study.

    Attributes:
        QUEUED: Submitted; no process has started it.
        RESOLVING: A process opens its data and device, measures training speed, and plans it.
        RUNNING: A process runs its trials.
        STOPPING: A process runs it, and was requested to stop.
        PAUSED: No process runs it; it can be resumed.
        FINISHED: There is nothing more to do.
        FAILED: It cannot continue, for example because its dense training failed.
        CANCELLED: It was ended by request; its results remain.
    """

    QUEUED = "QUEUED"
    RESOLVING = "RESOLVING"
    RUNNING = "RUNNING"
    STOPPING = "STOPPING"
    PAUSED = "PAUSED"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"

    @property
    def is_active(self) -> bool:
        """Whether a process works on a study in this state; without a living lease, it was interrupted."""
        return self in (StudyState.RESOLVING, StudyState.RUNNING, StudyState.STOPPING)

    @property
    def is_over(self) -> bool:
        """Whether a study in this state is not resumed."""
        return self in (StudyState.FINISHED, StudyState.CANCELLED)


class StopRequest(StrEnum):
    """A request to stop a study, which its process fulfils after the step under way.

    Attributes:
        PAUSE: Stop; the study is PAUSED.
        STOP: Stop and write the results so far; the study is PAUSED.
        CANCEL: Stop for good; the study is CANCELLED.
        APPLY: Stop and go back to the queue, so that changed resources apply; the study is QUEUED.
    """

    PAUSE = "pause"
    STOP = "stop"
    CANCEL = "cancel"
    APPLY = "apply"


class StudyCondition(Value):
    """The state of a study and what is known with it.

    Attributes:
        state: The stored state.
        reason: Why it is in that state, if there is more to say; else None.
        request: A request that is not fulfilled yet.
        is_leased: Whether a living process has leased it.
        work: What its trainings under way have done.
    """

    state: StudyState
    reason: str | None = None
    request: StopRequest | None = None
    is_leased: bool = False
    work: tuple[WorkProgress, ...] = ()

    @property
    def is_interrupted(self) -> bool:
        """Whether its process was lost before it could store another state."""
        return self.state.is_active and not self.is_leased

    @property
    def word(self) -> str:
        """The state in lower case; `interrupted` if its process was lost."""
        return "interrupted" if self.is_interrupted else self.state.value.lower()

"""State transitions of a study, shared by all stores: pure functions."""

from __future__ import annotations

from sparsesearch.errors import StudyStateError
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.state import StopRequest, StudyCondition, StudyState


def opened(spec: StudySpec) -> StudyState:
    """Return the state of a new study that a process starts to work on."""
    return StudyState.RESOLVING if spec.resolved is None else StudyState.RUNNING


def resumed(found: StudyCondition, spec: StudySpec) -> StudyCondition:
    """Return the condition of a study that a process resumes.

    Raises:
        StudyStateError: The study was cancelled.
    """
    if found.state is StudyState.CANCELLED:
        raise StudyStateError(
            f"study {spec.name!r} was cancelled and cannot be resumed; start another, which may begin with its "
            f"results: --warm-start {spec.name}"
        )
    return StudyCondition(state=opened(spec), is_leased=True)


def taken(found: StudyCondition, spec: StudySpec) -> StudyCondition:
    """Return the condition of a study that the process starts to work on for which it was claimed."""
    if found.request is not None:
        return found
    return StudyCondition(state=opened(spec), is_leased=True)


def entered(found: StudyCondition, state: StudyState, *, reason: str | None = None) -> StudyCondition:
    """Return the condition of a study whose process states its state.

    A request outlives a change between active states: it is fulfilled when the work has stopped, also by a process that
    gives the study back to the queue for another reason.
    """
    if state.is_active and found.request is not None:
        return found
    if state is StudyState.QUEUED:
        state = given_back(found).state
    return StudyCondition(state=state, reason=reason, is_leased=found.is_leased, work=found.work)


def enqueued(found: StudyCondition, *, study: str) -> StudyCondition:
    """Return the condition of a study that is to be run by a process that takes it from the queue.

    Raises:
        StudyStateError: A process runs it, or it is over.
    """
    if found.state is StudyState.QUEUED:
        return found
    if found.state.is_over:
        raise StudyStateError(f"study {study!r} is {found.word}, so there is nothing to resume")
    if found.is_leased:
        raise StudyStateError(f"study {study!r} is {found.word}; resume it when it has stopped")
    return StudyCondition(state=StudyState.QUEUED)


def lost(found: StudyCondition, *, is_last: bool = False) -> StudyCondition:
    """Return the condition of a study of the queue whose process was lost: queued again, or as it was requested.

    Args:
        found: The stored condition.
        is_last: Whether it was lost too often in a row to be queued again.
    """
    if not found.is_interrupted:
        return found
    if is_last:
        return StudyCondition(state=StudyState.PAUSED, reason="its process was lost again and again; see its log")
    return given_back(found, reason="its process was lost")


def given_back(found: StudyCondition, *, reason: str | None = None) -> StudyCondition:
    """Return the condition of a study that its process leaves unfinished: queued again, or as it was requested."""
    state = _FULFILLED.get(found.request or StopRequest.APPLY, StudyState.QUEUED)
    return StudyCondition(state=state, reason=reason)


def check_not_over(found: StudyCondition, *, study: str, what: str) -> None:
    """Check that there is something left to change in a study.

    Raises:
        StudyStateError: It is over.
    """
    if found.state.is_over:
        raise StudyStateError(f"study {study!r} is {found.word}, so there is nothing to {what}")


def to_apply(found: StudyCondition) -> StudyCondition:
    """Return the condition of a study whose resources were changed; another request is kept, which applies them too."""
    if not (found.is_leased and found.state.is_active) or found.request is not None:
        return found
    return found.model_copy(update={"request": StopRequest.APPLY})


def requested(found: StudyCondition, request: StopRequest, *, study: str) -> StudyCondition:
    """Return the condition after a request; the same if it changes nothing.

    A process that runs the study fulfils the request; otherwise it is fulfilled at once.

    Args:
        found: The stored condition.
        request: The request.
        study: Name of the study, for messages.

    Raises:
        StudyStateError: The study is over, or failed and is not to be cancelled.
    """
    after = StudyState.CANCELLED if request is StopRequest.CANCEL else StudyState.PAUSED
    if found.is_leased and found.state.is_active:
        strongest = StopRequest.CANCEL if found.request is StopRequest.CANCEL else request
        return found.model_copy(update={"state": StudyState.STOPPING, "request": strongest})
    if found.state is after:
        return found
    if found.state.is_over or (found.state is StudyState.FAILED and after is not StudyState.CANCELLED):
        raise StudyStateError(f"study {study!r} is {found.word}, so there is nothing to {request.value}")
    return StudyCondition(state=after, reason=found.reason, is_leased=found.is_leased)


_FULFILLED = {
    StopRequest.PAUSE: StudyState.PAUSED,
    StopRequest.STOP: StudyState.PAUSED,
    StopRequest.CANCEL: StudyState.CANCELLED,
}

"""The errors that every store raises, in the same words."""

from __future__ import annotations

from collections.abc import Sequence

from sparsesearch.errors import DuplicateTrialError, StaleAttemptError, StudyExistsError, StudyNotFoundError
from sparsesearch.study.trial import NewTrial

_NAMES_SHOWN = 5


def exists(name: str, *, where: str) -> StudyExistsError:
    """A study cannot be added under a name that is taken."""
    return StudyExistsError(f"a study {name!r} is already in {where}; resume it, or choose another name")


def not_found(name: str, *, where: str, names: Sequence[str]) -> StudyNotFoundError:
    """There is no study of that name; `names` are those there are, newest first."""
    if not names:
        return StudyNotFoundError(f"no study {name!r} in {where}: no study was started there yet")
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    return StudyNotFoundError(f"no study {name!r} in {where}; there are: {shown}")


def lease_lost(study: str) -> StaleAttemptError:
    """A write came from a controller that no longer holds the study."""
    return StaleAttemptError(
        f"study {study!r} is no longer held by this controller: it was closed, deleted or taken over; open it again"
    )


def duplicate(trial: NewTrial, *, twin: int) -> DuplicateTrialError:
    """A trial under a new number is one that is stored."""
    return DuplicateTrialError(
        f"trial {trial.number} ({trial.label}) is trial {twin} again: same schedule, fidelity and seed; "
        "take that one's result"
    )


def no_trial(number: int, *, study: str) -> LookupError:
    """A claim or an event is about a trial that was never added."""
    return LookupError(f"study {study!r} has no trial {number}; add it first")

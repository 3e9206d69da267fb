"""The errors that all stores raise."""

from __future__ import annotations

from collections.abc import Sequence

from sparsesearch.errors import DuplicateTrialError, StaleAttemptError, StudyExistsError, StudyNotFoundError
from sparsesearch.study.trial import NewTrial

_NAMES_SHOWN = 5


def exists(name: str, *, where: str) -> StudyExistsError:
    """Return the error for adding a study under an existing name."""
    return StudyExistsError(f"study {name!r} already exists in {where}; resume it, or choose another name")


def not_found(name: str, *, where: str, names: Sequence[str]) -> StudyNotFoundError:
    """Return the error for an unknown study; `names` are the existing ones, newest first."""
    if not names:
        return StudyNotFoundError(f"no study {name!r} in {where}, which contains no studies yet")
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", ..." if len(names) > _NAMES_SHOWN else "")
    return StudyNotFoundError(f"no study {name!r} in {where}; existing studies: {shown}")


def lease_lost(study: str) -> StaleAttemptError:
    """Return the error for a write by a controller that no longer owns the study's lease."""
    return StaleAttemptError(
        f"study {study!r} is no longer leased by this process: it was closed, deleted or taken over; open it again"
    )


def duplicate(trial: NewTrial, *, existing: int) -> DuplicateTrialError:
    """Return the error for a new trial that equals a stored trial."""
    return DuplicateTrialError(
        f"trial {trial.number} ({trial.label}) duplicates trial {existing}: same schedule, fidelity and seed; "
        "use the result of that trial"
    )


def no_trial(number: int, *, study: str) -> LookupError:
    """Return the error for a claim or an event of a trial that was never added."""
    return LookupError(f"study {study!r} has no trial {number}; add it first")

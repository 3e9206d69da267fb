"""The exception tree. Every error a user can cause is one readable line: what, where, how to mend.

SparseSearchError
├── UserInputError            exit code 2
│   ├── BackboneError         unknown or unsupported backbone
│   ├── ScheduleError         a schedule that does not fit its backbone
│   ├── SpaceError            a search space that is malformed or empty
│   ├── BudgetError           a budget nothing can reach, or that needs no search
│   ├── SpecError             unreadable or contradictory study document
│   ├── DataError             missing, empty or broken data
│   ├── CheckpointError       missing, corrupt or foreign weights
│   ├── StudyExistsError      the study name is taken
│   ├── StudyNotFoundError    no study of that name
│   ├── StudyBusyError        another controller is running the study
│   ├── StoreError            the database cannot be reached, read or written
│   ├── StoreVersionError     the database schema is older or newer than this program
│   ├── ClusterError          Ray cannot be started or joined, or lacks what trials need
│   ├── ProfileError          no profile of a device, or one of another target
│   ├── TrackingError         MLflow cannot be reached, or refuses what it is told
│   └── MissingExtraError     a package that is needed is not installed
├── ShapeError                a tensor of the wrong shape (programming error of a caller)
├── StaleAttemptError         a write by somebody who no longer owns the trial or study
├── DuplicateTrialError       the study already holds this schedule at this fidelity and seed
└── StudyFailedError          the study could not be brought to an end; exit code 1
"""

from __future__ import annotations


class SparseSearchError(Exception):
    """Base of all errors raised on purpose by this package."""

    exit_code = 1


class UserInputError(SparseSearchError):
    """The caller asked for something impossible; the message says how to mend it."""

    exit_code = 2


class BackboneError(UserInputError):
    """The backbone is unknown or of a kind that cannot be sparsified."""


class ScheduleError(UserInputError):
    """The schedule does not fit the backbone or contradicts itself."""


class SpaceError(UserInputError):
    """The search space is malformed or holds no valid schedule."""


class BudgetError(UserInputError):
    """The budget cannot be reached, or is not below the dense cost."""


class SpecError(UserInputError):
    """The study document cannot be read or contradicts itself."""


class DataError(UserInputError):
    """The data cannot be found or read."""


class CheckpointError(UserInputError):
    """A weights file is missing, corrupt, or does not fit the model."""


class StudyExistsError(UserInputError):
    """A study of this name is already in the database."""


class StudyNotFoundError(UserInputError):
    """No study of this name is in the database."""


class StudyBusyError(UserInputError):
    """Another controller holds the study's lease."""


class StoreError(UserInputError):
    """The database cannot be reached, read or written."""


class StoreVersionError(UserInputError):
    """The database schema is not the one this program reads."""


class ClusterError(UserInputError):
    """Ray cannot be started or joined, or its machines lack what trials need."""


class ProfileError(UserInputError):
    """A latency profile is missing, cannot be read, or is not of what was asked for."""


class TrackingError(UserInputError):
    """MLflow cannot be reached, or refuses what it is told."""


class MissingExtraError(UserInputError):
    """A package that is not installed is needed for what was asked."""


class ShapeError(SparseSearchError):
    """A tensor does not have the documented shape."""


class StaleAttemptError(SparseSearchError):
    """A write was refused: its attempt or lease is no longer the current one."""


class DuplicateTrialError(SparseSearchError):
    """The study already holds a trial of this schedule at this fidelity and seed."""


class StudyFailedError(SparseSearchError):
    """The study ended without a usable result."""


def one_line(error: Exception) -> str:
    """The human part of an exception as one line; pydantic errors name each field with its complaint."""
    details = getattr(error, "errors", None)
    if callable(details):
        parts = []
        for item in details():
            where = ".".join(str(part) for part in item["loc"])
            message = str(item["msg"]).removeprefix("Value error, ")
            parts.append(f"{where}: {message}" if where else message)
        return "; ".join(parts)
    return str(error).splitlines()[0] if str(error) else type(error).__name__

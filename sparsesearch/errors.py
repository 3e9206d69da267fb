"""The exception hierarchy. Every user error is one readable line: what is wrong, where, and how to fix it.

SparseSearchError
├── UserInputError            exit code 2
│   ├── BackboneError         unknown or unsupported backbone
│   ├── ScheduleError         a schedule that does not fit its backbone
│   ├── SpaceError            a search space that is malformed or empty
│   ├── BudgetError           an infeasible budget, or one that needs no search
│   ├── SpecError             unreadable or contradictory study document
│   ├── DataError             missing, empty or broken data
│   ├── CheckpointError       missing, corrupt or foreign weights
│   │   └── DamagedFileError  a stored file is not what was written
│   ├── StudyExistsError      the study name is taken
│   ├── StudyNotFoundError    no study with that name
│   ├── StudyBusyError        another controller is running the study
│   ├── StudyStateError       the study is in a state that does not allow what was requested
│   ├── StoreError            the database cannot be opened, read or written
│   ├── StoreVersionError     the database schema is older or newer than this version
│   ├── ClusterError          Ray cannot be started or joined, or lacks what trials need
│   ├── ProfileError          no latency profile, or one of another target
│   ├── TrackingError         MLflow cannot be reached, or rejects a request
│   └── MissingExtraError     a required package is not installed
├── InfrastructureError       a fault of a disk, mount, network or machine, not of what ran there; exit code 75
├── ShapeError                a tensor of the wrong shape (a bug in the caller)
├── StaleAttemptError         a write by a process that no longer owns the trial or study; exit code 75
├── DuplicateTrialError       the study already has a trial with this schedule, fidelity and seed
└── StudyFailedError          the study could not be completed; exit code 1
"""

from __future__ import annotations

import re

from sparsesearch.redact import without_password

_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")

_LONG_WORD = re.compile(r"(\S{100})\S{151,}(\S{50})")


def printable(text: str) -> str:
    r"""Escape what is no text: a path with a line feed or with bytes that are no UTF-8 becomes one line with `\n`."""
    return _CONTROL.sub(lambda found: found.group().encode("unicode_escape").decode(), text)


def without_long_words(text: str) -> str:
    """Leave out the middle of words that nobody reads, such as a file that was given where a name belongs."""
    return _LONG_WORD.sub(r"\1...\2", text)


class SparseSearchError(Exception):
    """Base class of all errors that this package raises deliberately.

    The text is one line, also with odd paths, has no password of a URL, and no word of more than 300 characters.
    """

    exit_code = 1

    def __str__(self) -> str:
        return without_long_words(printable(without_password(super().__str__())))


class UserInputError(SparseSearchError):
    """Invalid input; the message says how to fix it."""

    exit_code = 2


class BackboneError(UserInputError):
    """The backbone is unknown or cannot be sparsified."""


class ScheduleError(UserInputError):
    """The schedule does not fit the backbone or contradicts itself."""


class SpaceError(UserInputError):
    """The search space is malformed or contains no valid schedule."""


class BudgetError(UserInputError):
    """The budget is infeasible, or is not below the dense cost."""


class SpecError(UserInputError):
    """The study document cannot be read or contradicts itself."""


class DataError(UserInputError):
    """The data cannot be found or read."""


class CheckpointError(UserInputError):
    """A weights file is missing, corrupt, or does not fit the model."""


class DamagedFileError(CheckpointError):
    """A stored file is not what was written: it was changed, cut or exchanged."""


class StudyExistsError(UserInputError):
    """A study with this name already exists in the database."""


class StudyNotFoundError(UserInputError):
    """No study with this name exists in the database."""


class StudyBusyError(UserInputError):
    """Another controller has leased the study."""


class StudyStateError(UserInputError):
    """The state of the study does not allow what was requested."""


class StoreError(UserInputError):
    """The database cannot be opened, read or written."""


class StoreUnavailableError(StoreError):
    """The database is not available for now: locked, restarted, disk full. The same may succeed later.

    Attributes:
        is_disconnect: Whether an open connection was lost.
    """

    is_disconnect: bool = False


class StoreVersionError(UserInputError):
    """The database schema is not the one that this version reads."""


class ClusterError(UserInputError):
    """Ray cannot be started or joined, or its machines lack what trials need."""


class ProfileError(UserInputError):
    """A latency profile is missing, unreadable, or does not match the requested target."""


class TrackingError(UserInputError):
    """MLflow cannot be reached, or rejects a request."""


class MissingExtraError(UserInputError):
    """A package that is required for what was asked is not installed."""


class DeviceMemoryError(UserInputError):
    """A device has too little memory for what is asked of it."""


class InfrastructureError(SparseSearchError):
    """A disk, mount, network or machine failed: no result of the trial that ran there, which can be tried again."""

    exit_code = 75


class ShapeError(SparseSearchError):
    """A tensor does not have the documented shape."""


class StaleAttemptError(SparseSearchError):
    """A write was rejected: its attempt or lease is no longer current."""

    exit_code = 75


class DuplicateTrialError(SparseSearchError):
    """The study already has a trial with this schedule, fidelity and seed."""


class StudyFailedError(SparseSearchError):
    """The study ended without a usable result."""


_LONGEST = 600
_FIELDS_SHOWN = 8


def one_line(error: Exception) -> str:
    """Format the message of an exception as one short line without passwords; for pydantic, the first fields."""
    text = without_password(_first_line(error))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _first_line(error: Exception) -> str:
    details = getattr(error, "errors", None)
    if callable(details):
        parts: list[str] = []
        found = details()
        for item in found[:_FIELDS_SHOWN]:
            where = ".".join(str(part) for part in item["loc"])
            message = str(item["msg"]).removeprefix("Value error, ")
            parts.append(f"{where}: {message}" if where else message)
        more = len(found) - len(parts)
        return "; ".join([*parts, *([f"and {more} more"] if more else [])])
    return printable(str(error).splitlines()[0]) if str(error) else type(error).__name__

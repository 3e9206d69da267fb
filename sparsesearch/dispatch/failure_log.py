"""The traceback of a failed trial, kept in a file of its own."""

from __future__ import annotations

import logging
import os
import socket
import traceback
from datetime import UTC, datetime
from pathlib import Path

from sparsesearch.errors import one_line
from sparsesearch.files.durable import PRIVATE_FOLDER, write_file
from sparsesearch.redact import without_password
from sparsesearch.study.trial import Trial

_LONGEST = 200_000  # bytes of earlier tracebacks

logger = logging.getLogger(__name__)


def log_failure(error: Exception, trial: Trial, *, logs: Path | None) -> str:
    """Write the traceback of what an evaluation raised to a file for this trial and attempt.

    The file says which trial, attempt, host and process it was, and when; passwords are left out. Further tracebacks of
    the attempt, as of processes that train together, are added. If it cannot be written, a warning is logged.

    Args:
        error: What was raised.
        trial: The claimed trial.
        logs: The `log_folder` of the study's checkpoints; None to write no file.

    Returns:
        The reason of the failure in one line, which names the file relative to the study's folder.
    """
    reason = f"{type(error).__name__}: {one_line(error)}"
    if logs is None:
        logger.info("trial %d failed", trial.number, exc_info=error)
        return reason
    name = f"trial-{trial.number:05d}-attempt-{trial.attempt}.log"
    head = (
        f"trial {trial.number} of study {trial.study}, attempt {trial.attempt}: {trial.label}\n"
        f"host {socket.gethostname()}, process {os.getpid()}, {datetime.now(UTC).isoformat(timespec='seconds')}\n\n"
    )
    text = head + "".join(traceback.format_exception(error))
    try:
        logs.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)  # without parents: the disk may have gone away
        content = without_password(text).encode(errors="backslashreplace")
        write_file(logs / name, _earlier(logs / name) + content, is_private=True)
    except OSError as problem:
        logger.warning("the traceback of trial %d is not kept: %s", trial.number, one_line(problem))
        return reason
    return f"{reason} (traceback in the study's storage: {logs.name}/{name})"


def _earlier(path: Path) -> bytes:
    """The end of what the file has already."""
    if not path.is_file():
        return b""
    return path.read_bytes()[-_LONGEST:] + b"\n"

"""The current status of a stored study."""

from __future__ import annotations

import time

from sparsesearch.analysis.status import StudyStatus
from sparsesearch.analysis.view import StudyView
from sparsesearch.study.protocols import StudyRecords


def read_status(records: StudyRecords, study: str) -> StudyStatus:
    """Read the current status of a stored study.

    Raises:
        StudyNotFoundError: There is no study of that name.
    """
    return StudyStatus.of(StudyView.of(records, study), now=time.time())

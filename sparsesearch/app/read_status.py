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
    is_leased = records.is_leased(study)  # before its trials, so that a study that ends meanwhile is not interrupted
    return StudyStatus.of(StudyView.of(records, study), is_leased=is_leased, now=time.time())

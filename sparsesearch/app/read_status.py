"""The current status of a stored study."""

from __future__ import annotations

import time

from sparsesearch.analysis.read_view import read_view
from sparsesearch.analysis.status import StudyStatus
from sparsesearch.study.protocols import StudyRecords


def read_status(records: StudyRecords, study: str) -> StudyStatus:
    """Read the current status of a stored study, without reading all its trials.

    Raises:
        StudyNotFoundError: There is no study of that name.
    """
    digest = records.digest(study)
    last = {number for number in (digest.last_failed, digest.last_retried) if number is not None}
    view = read_view(records, study, also=last)
    return StudyStatus.of(view, now=time.time(), digest=digest, spans=lambda fidelity: records.spans(study, fidelity))

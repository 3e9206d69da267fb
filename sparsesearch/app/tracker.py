"""Build the MLflow tracker and the sync of a study."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from sparsesearch.analysis.view import StudyView
from sparsesearch.app.storage import storage_of
from sparsesearch.app.write_results import write_front_files
from sparsesearch.settings import Settings
from sparsesearch.store.sql import SqlStore
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.tracking.connection import Address
from sparsesearch.tracking.file_lock import FileLock
from sparsesearch.tracking.mlflow_tracker import SYNC_COMMAND, MlflowTracker
from sparsesearch.tracking.sync import StudySync
from sparsesearch.visualize.best import write_best_picture


def mlflow_address(settings: Settings) -> Address:
    """Return the address of the MLflow in the settings."""
    is_ours = settings.mlflow_tracking_uri is None
    return Address(uri=settings.mlflow_uri, artifacts=settings.mlflow_artifacts, is_ours=is_ours)


def study_sync(records: StudyRecords, settings: Settings, study: str) -> StudySync:
    """Create the MLflow sync of one study. One that was submitted to a service has its owner and its page as tags."""

    def write_picture(view: StudyView, folder: Path) -> None:
        write_best_picture(view, folder, storage=storage_of(view.spec, settings))

    return StudySync(
        records,
        study,
        address=mlflow_address(settings),
        lock=FileLock(settings.home / "mlflow-turns" / f"{study}.lock"),
        write_files=write_front_files,
        write_last=write_picture,
        labels=_labels(records, study),
        begin=_noting(records, study) if isinstance(records, SqlStore) else None,
    )


def _noting(store: SqlStore, study: str) -> Callable[[], Callable[[str | None], None]]:
    """Note in the store where MLflow has a study, and up to which change."""

    def begin() -> Callable[[str | None], None]:
        number = store.last_change(study).number
        return lambda page: store.queue.note_synced(study, number, page=page)

    return begin


def _labels(records: StudyRecords, study: str) -> dict[str, str]:
    submission = records.queue.submissions([study]).get(study) if isinstance(records, SqlStore) else None
    if submission is None:
        return {}
    page = os.environ.get("SPARSESEARCH_SERVICE_URL", "").rstrip("/")
    return {"owner": submission.owner, **({"page": f"{page}/studies/{study}"} if page else {})}


def mlflow_tracker(
    records: StudyRecords, settings: Settings, *, report: Callable[[str], None], sync_command: str = SYNC_COMMAND
) -> MlflowTracker:
    """Create a tracker that logs running studies to MLflow.

    Args:
        records: The store.
        settings: Where MLflow is.
        report: Receives messages for the user.
        sync_command: The command that syncs a study, without the name of the study.
    """
    return MlflowTracker(lambda study: study_sync(records, settings, study), report=report, sync_command=sync_command)

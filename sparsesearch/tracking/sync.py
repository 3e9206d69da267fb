"""Sync a study from the store to MLflow, by comparing the two and adding what is missing."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sparsesearch.analysis.view import StudyView
from sparsesearch.errors import TrackingError
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.tracking.connection import Address, Connection, apply_environment, connect, mlflow_errors, wrap_error
from sparsesearch.tracking.file_lock import FileLock
from sparsesearch.tracking.files import TABLES, artifact_problem, files_digest, write_all
from sparsesearch.tracking.records import FILES_TAG, NO_LABELS, STUDY_KEY, records_of
from sparsesearch.tracking.stored_runs import StoredRun, create_run, find_runs, update_run

logger = logging.getLogger(__name__)

WriteFiles = Callable[[StudyView, Path], None]
"""Writes further artifacts of a study's front (a plot, a recipe) into a folder."""


def _write_nothing(view: StudyView, folder: Path) -> None:
    pass


def _nothing(page: str | None) -> None:
    pass


FRONT_SECONDS, TABLE_SECONDS = 10.0, 60.0
"""Minimum time between updates of a running study's files, if its front has changed and if it has not."""


@dataclass(frozen=True)
class Changes:
    """The changes made by one sync.

    Attributes:
        created: Number of runs that were created.
        changed: Number of runs that were updated.
        removed: Number of duplicate runs that were deleted.
        files: Whether the files of the study were updated.
        note: Why its files cannot be stored; None if they can.
    """

    created: int = 0
    changed: int = 0
    removed: int = 0
    files: bool = False
    note: str | None = None


class StudySync:
    """Syncs one study to MLflow. Not thread-safe, but several processes may sync the same study.

    The sync state is stored only in MLflow itself, as tags of the runs: nothing is logged twice, runs that were deleted
    in MLflow are restored, and an empty MLflow is filled.

    Args:
        records: The store.
        study: Name of the study.
        address: The address of MLflow.
        lock: Lock between processes that sync this study.
        write_files: Writes further files of the front.
        write_last: Writes files that are too expensive while trials run; called only if no controller runs the study.
        labels: Further tags of the study.
        begin: Called before the study is read; what it returns is called when MLflow has what was read, with the path
            of the run on MLflow's pages.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        records: StudyRecords,
        study: str,
        *,
        address: Address,
        lock: FileLock,
        write_files: WriteFiles,
        write_last: WriteFiles = _write_nothing,
        labels: Mapping[str, str] = NO_LABELS,
        begin: Callable[[], Callable[[str | None], None]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study, self._labels, self._begin = study, labels, begin or (lambda: _nothing)
        self._records = records
        apply_environment()  # not only in connect: Ray Tune may import MLflow before, which then reads the environment
        self._address = address
        self._lock = lock
        self._write_files = write_files
        self._write_last = write_last
        self._clock = clock
        self._connection: Connection | None = None
        self._stored: dict[str, StoredRun] = {}
        self._is_known = False
        self._files_at = 0.0
        self._front: tuple[int, ...] | None = None
        self._note: str | None = None

    def run(self, *, is_live: bool) -> Changes:
        """Update MLflow.

        Args:
            is_live: Whether a controller is running the study; its files are then not updated at every call.

        Raises:
            TrackingError: MLflow does not respond, or raises an error.
            StudyNotFoundError: The study does not exist in the store.
        """
        if self._connection is None and not StudyView.of(self._records, self.study).has_results:
            return Changes()
        try:
            if self._connection is None:
                self._connection = connect(self._address)
            with self._lock.acquire() as is_unchanged:
                done = self._begin()
                view = StudyView.of(self._records, self.study)  # read under the lock, so that no older view follows it
                changes = self._update_runs(view, self._connection, is_live=is_live, is_unchanged=is_unchanged)
                done(self._page(self._connection))
                return changes
        except Exception as error:
            self._connection, self._is_known = None, False
            if isinstance(error, TrackingError) or not isinstance(error, mlflow_errors()):
                raise
            logger.debug("syncing %s failed", self.study, exc_info=True)
            raise wrap_error(self._address, error) from error

    def _page(self, connection: Connection) -> str | None:
        run = self.run_id
        return None if run is None else f"#/experiments/{connection.experiment_id}/runs/{run}"

    @property
    def run_id(self) -> str | None:
        """The run of the study in MLflow; None if it is not known yet."""
        stored = self._stored.get(STUDY_KEY)
        return None if stored is None else stored.run_id

    @property
    def uri(self) -> str:
        """The address of MLflow, as MLflow takes it."""
        return self._address.uri

    def pending(self) -> int:
        """Return how many runs are out of date, as far as this object knows. Does not query MLflow."""
        view = StudyView.of(self._records, self.study)
        if not view.has_results:
            return 0
        count = 0
        for key, record in records_of(view, is_live=False, labels=self._labels):
            stored = self._stored.get(key)
            is_same = stored is not None and stored.is_same(record)
            count += not is_same or (key == STUDY_KEY and stored is not None and stored.files != files_digest(view))
        return count

    def _update_runs(self, view: StudyView, connection: Connection, *, is_live: bool, is_unchanged: bool) -> Changes:
        created = changed = removed = 0
        if not (self._is_known and is_unchanged):
            self._stored, removed = find_runs(view, connection)
            self._is_known = True
        stored = self._stored
        for key, record in records_of(view, is_live=is_live, labels=self._labels):
            parent = None if key == STUDY_KEY else stored[STUDY_KEY].run_id
            if key not in stored:
                stored[key] = create_run(connection, record, parent=parent)
                created += 1
            elif not stored[key].is_same(record) or stored[key].parent != parent:
                changed += 1
            else:
                continue
            update_run(connection, stored[key], record, parent=parent)
        files = self._update_files(view, connection, stored[STUDY_KEY], is_live=is_live)
        return Changes(created=created, changed=changed, removed=removed, files=files, note=self._note)

    def _update_files(self, view: StudyView, connection: Connection, study: StoredRun, *, is_live: bool) -> bool:
        front = tuple(trial.number for trial in view.front.points)
        if is_live and self._front is not None:
            interval = FRONT_SECONDS if front != self._front else TABLE_SECONDS
            if self._clock() - self._files_at < interval:
                return False
        digest = files_digest(view, is_live=is_live)
        if study.files == digest:
            return False
        self._note = artifact_problem(self._address, connection.client, study.run_id)
        if self._note is not None:
            return False
        from mlflow.entities import RunTag

        with tempfile.TemporaryDirectory(prefix="sparsesearch-") as name:
            folder = Path(name)
            self._write_files(view, folder)
            if not is_live:
                self._write_last(view, folder)
            write_all(view, folder)  # last, since the report contains the picture
            connection.client.log_artifacts(study.run_id, str(folder))
        tags = [RunTag("mlflow.loggedArtifacts", TABLES), RunTag(FILES_TAG, digest)]
        connection.client.log_batch(study.run_id, tags=tags)
        self._front, self._files_at, study.files = front, self._clock(), digest
        return True

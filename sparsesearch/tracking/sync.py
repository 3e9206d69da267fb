"""Sync a study from the store to MLflow, by comparing the two and adding what is missing."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsesearch.analysis.view import StudyView
from sparsesearch.errors import TrackingError
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.tracking.connection import Address, Connection, apply_environment, connect, mlflow_errors, wrap_error
from sparsesearch.tracking.file_lock import FileLock
from sparsesearch.tracking.files import TABLES, artifact_problem, files_digest, write_all
from sparsesearch.tracking.note import RUN_PAGE
from sparsesearch.tracking.progress_metrics import Point
from sparsesearch.tracking.records import (
    CREATED_TAG,
    FILES_TAG,
    NO_LABELS,
    OLD_SYNCED_TAG,
    OLD_TAGS,
    STUDY_KEY,
    STUDY_TAG,
    SYNCED_TAG,
    TRIAL_TAG,
    RunRecord,
    identity,
    records_of,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

WriteFiles = Callable[[StudyView, Path], None]
"""Writes further artifacts of a study's front (a plot, a recipe) into a folder."""


def _write_nothing(view: StudyView, folder: Path) -> None:
    pass


FRONT_SECONDS, TABLE_SECONDS = 10.0, 60.0
"""Minimum time between updates of a running study's files, if its front has changed and if it has not."""

_PARENT_TAG, _BATCH = "mlflow.parentRunId", 900


@dataclass
class _StoredRun:
    """The state of one run in MLflow."""

    run_id: str
    status: str
    digest: str | None
    params: set[str]
    points: set[Point]
    parent: str | None
    files: str | None = None
    old_tags: tuple[str, ...] = ()

    def is_same(self, record: RunRecord) -> bool:
        return self.digest == record.digest and self.status == record.status


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
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study, self._labels = study, labels
        self._records = records
        apply_environment()  # not only in connect: Ray Tune may import MLflow before, which then reads the environment
        self._address = address
        self._lock = lock
        self._write_files = write_files
        self._write_last = write_last
        self._clock = clock
        self._connection: Connection | None = None
        self._stored: dict[str, _StoredRun] = {}
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
                view = StudyView.of(self._records, self.study)  # read under the lock, so that no older view follows it
                return self._update_runs(view, self._connection, is_live=is_live, is_unchanged=is_unchanged)
        except Exception as error:
            self._connection, self._is_known = None, False
            if isinstance(error, TrackingError) or not isinstance(error, mlflow_errors()):
                raise
            logger.debug("syncing %s failed", self.study, exc_info=True)
            raise wrap_error(self._address, error) from error

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
            self._stored, removed = _find_runs(view, connection)
            self._is_known = True
        stored = self._stored
        for key, record in records_of(view, is_live=is_live, labels=self._labels):
            parent = None if key == STUDY_KEY else stored[STUDY_KEY].run_id
            if key not in stored:
                stored[key] = _create(connection, record, parent=parent)
                created += 1
            elif not stored[key].is_same(record) or stored[key].parent != parent:
                changed += 1
            else:
                continue
            _update(connection, stored[key], record, parent=parent)
        files = self._update_files(view, connection, stored[STUDY_KEY], is_live=is_live)
        return Changes(created=created, changed=changed, removed=removed, files=files, note=self._note)

    def _update_files(self, view: StudyView, connection: Connection, study: _StoredRun, *, is_live: bool) -> bool:
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


def _search(view: StudyView, connection: Connection) -> Iterator[Run]:
    filters = [f"tags.`{name}` = '{identity(view)[name]}'" for name in (STUDY_TAG, CREATED_TAG)]
    token: str | None = None
    while True:
        page = connection.client.search_runs(
            [connection.experiment_id], filter_string=" and ".join(filters), max_results=1000, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _find_runs(view: StudyView, connection: Connection) -> tuple[dict[str, _StoredRun], int]:
    """Find the runs of this study in MLflow, and delete duplicates; return the runs and the number of duplicates."""
    groups: dict[str, list[Run]] = {}
    for run in _search(view, connection):
        groups.setdefault(run.data.tags.get(TRIAL_TAG, STUDY_KEY), []).append(run)
    stored: dict[str, _StoredRun] = {}
    removed = 0
    for key, runs in groups.items():
        runs.sort(
            key=lambda run: (SYNCED_TAG not in run.data.tags and OLD_SYNCED_TAG not in run.data.tags, run.info.run_id)
        )
        for duplicate in runs[1:]:
            connection.client.delete_run(duplicate.info.run_id)
            removed += 1
        info, data = runs[0].info, runs[0].data
        stored[key] = _StoredRun(
            run_id=info.run_id,
            status=info.status,
            digest=data.tags.get(SYNCED_TAG),
            old_tags=tuple(tag for tag in OLD_TAGS if tag in data.tags),
            params=set(data.params),
            points=set(),
            parent=data.tags.get(_PARENT_TAG),
            files=data.tags.get(FILES_TAG),
        )
    return stored, removed


def _create(connection: Connection, record: RunRecord, *, parent: str | None) -> _StoredRun:
    tags = {**record.identity, "mlflow.source.name": "sparsesearch", "mlflow.source.type": "LOCAL"}
    if parent is not None:
        tags[_PARENT_TAG] = parent
    run = connection.client.create_run(
        connection.experiment_id, start_time=record.start_ms, tags=tags, run_name=record.name
    )
    return _StoredRun(run.info.run_id, run.info.status, digest=None, params=set(), points=set(), parent=parent)


def _update(connection: Connection, stored: _StoredRun, record: RunRecord, *, parent: str | None) -> None:
    """Log a run in one or more batches, with tags in the last one: a run without them is completed by a later sync."""
    from mlflow.entities import Metric, Param, RunTag

    client = connection.client
    if parent is not None and stored.parent != parent:  # the former run of the study was deleted
        client.set_tag(stored.run_id, _PARENT_TAG, parent)
        stored.parent = parent
    if stored.digest != record.digest:
        params = [Param(key, value) for key, value in record.params.items() if key not in stored.params]
        page = f"#/experiments/{connection.experiment_id}/runs/{stored.run_id}"
        texts = {key: value.replace(RUN_PAGE, page) for key, value in record.tags.items()}
        tags = [RunTag(key, value) for key, value in {**texts, SYNCED_TAG: record.digest}.items()]
        points = [point for point in record.metrics if point not in stored.points]
        batches = [points[start : start + _BATCH] for start in range(0, len(points), _BATCH)] or [[]]
        for number, batch in enumerate(batches, start=1):
            is_last = number == len(batches)
            metrics = [Metric(point.key, point.value, point.time_ms, point.step) for point in batch]
            client.log_batch(
                stored.run_id, metrics=metrics, params=params if number == 1 else (), tags=tags if is_last else ()
            )
        for tag in stored.old_tags:
            client.delete_tag(stored.run_id, tag)
        stored.old_tags = ()
        stored.params.update(record.params)
        stored.points.update(points)
    if record.status in ("RUNNING", "SCHEDULED"):
        if stored.status != record.status:
            client.update_run(stored.run_id, status=record.status)
    else:
        client.set_terminated(stored.run_id, status=record.status, end_time=record.end_ms)
    stored.digest, stored.status = record.digest, record.status

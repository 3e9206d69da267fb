"""Makes MLflow show what the store holds of one study, by comparing the two and adding what is missing."""

from __future__ import annotations

import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sparsesearch.analysis.study_front import StudyFront
from sparsesearch.analysis.view import StudyView
from sparsesearch.errors import TrackingError
from sparsesearch.study.protocols import StudyRecords
from sparsesearch.study.spec import StudySpec
from sparsesearch.tracking.connection import Address, Connection, apply_environment, connect, mlflow_errors, refusal
from sparsesearch.tracking.file_lock import FileLock
from sparsesearch.tracking.files import TABLES, files_digest, write_all
from sparsesearch.tracking.note import RUN_PAGE
from sparsesearch.tracking.progress_metrics import Point
from sparsesearch.tracking.records import (
    CREATED_TAG,
    FILES_TAG,
    STUDY_TAG,
    SYNCED_TAG,
    TRIAL_TAG,
    RunRecord,
    identity,
    study_record,
    trial_record,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

WriteFiles = Callable[[StudySpec, StudyFront, Path], None]
"""Writes what else belongs to a study's front (its picture, its recipe) into a folder."""


def _nothing_more(spec: StudySpec, front: StudyFront, folder: Path) -> None:
    return


FRONT_SECONDS, TABLE_SECONDS = 10.0, 60.0
"""Of a running study, the files are renewed at most so often when its front has moved, and otherwise."""

_STUDY = ""
_PARENT_TAG = "mlflow.parentRunId"
_BATCH = 900


@dataclass
class _Shown:
    """What MLflow holds of one run."""

    run_id: str
    status: str
    digest: str | None
    params: set[str]
    points: set[Point]
    parent: str | None
    files: str | None = None


@dataclass(frozen=True)
class Changes:
    """What one pass did.

    Attributes:
        created: Runs that were missing.
        changed: Runs that were brought up to date.
        removed: Doubles that were deleted.
        files: Whether the files of the study were renewed.
    """

    created: int = 0
    changed: int = 0
    removed: int = 0
    files: bool = False


class StudySync:
    """Shows one study in MLflow. Not thread-safe, but several processes may sync the same study.

    What was shown is not noted anywhere but in MLflow itself, as tags of the runs: so nothing is shown twice, what
    was deleted there comes back, and an MLflow that is new is filled.

    Args:
        records: The store.
        study: Name of the study.
        address: The MLflow.
        turns: Where processes that sync this study take turns.
        write_files: Adds files of the front to those that are made here.
        write_last: Adds files that are too expensive while trials run: only where no controller works on the study.
        clock: Seconds that pass.
    """

    def __init__(
        self,
        records: StudyRecords,
        study: str,
        *,
        address: Address,
        turns: FileLock,
        write_files: WriteFiles,
        write_last: WriteFiles = _nothing_more,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.study = study
        self._records = records
        apply_environment()  # not only on connecting: meanwhile Ray Tune may import MLflow, which reads it then
        self._address = address
        self._turns = turns
        self._write_files = write_files
        self._write_last = write_last
        self._clock = clock
        self._connection: Connection | None = None
        self._shown: dict[str, _Shown] = {}
        self._is_known = False
        self._files_at = 0.0
        self._front: tuple[int, ...] | None = None

    def run(self, *, is_live: bool) -> Changes:
        """Bring MLflow up to date.

        Args:
            is_live: Whether a controller works on the study just now; its files are then not renewed at every call.

        Raises:
            TrackingError: MLflow does not answer, or refuses.
            StudyNotFoundError: The store has no such study.
        """
        if self._connection is None and not StudyView.of(self._records, self.study).has_results:
            return Changes()
        try:
            if self._connection is None:
                self._connection = connect(self._address)
            with self._turns.take() as nobody_else:
                view = StudyView.of(self._records, self.study)  # in our turn, so that no older view comes after it
                return self._bring_up_to_date(view, self._connection, is_live=is_live, trust=nobody_else)
        except Exception as error:
            self._connection, self._is_known = None, False
            if isinstance(error, TrackingError) or not isinstance(error, mlflow_errors()):
                raise
            logger.debug("copying %s failed", self.study, exc_info=True)
            raise refusal(self._address, error) from error

    def pending(self) -> int:
        """How many runs are not shown as the store holds them, as far as is known here. Does not ask MLflow."""
        view = StudyView.of(self._records, self.study)
        if not view.has_results:
            return 0
        count = 0
        for key, record in _wanted(view, is_live=False):
            shown = self._shown.get(key)
            is_same = shown is not None and _is_same(shown, record)
            if shown is not None and key == _STUDY:
                is_same = is_same and shown.files == files_digest(view)
            count += not is_same
        return count

    def _bring_up_to_date(self, view: StudyView, connection: Connection, *, is_live: bool, trust: bool) -> Changes:
        created = changed = removed = 0
        if not (self._is_known and trust):
            self._shown, removed = _look(view, connection)
            self._is_known = True
        shown = self._shown
        for key, record in _wanted(view, is_live=is_live):
            parent = None if key == _STUDY else shown[_STUDY].run_id
            if key not in shown:
                shown[key] = _create(connection, record, parent=parent)
                created += 1
            elif not _is_same(shown[key], record) or shown[key].parent != parent:
                changed += 1
            else:
                continue
            _update(connection, shown[key], record, parent=parent)
        files = self._renew_files(view, connection, shown[_STUDY], is_live=is_live)
        return Changes(created=created, changed=changed, removed=removed, files=files)

    def _renew_files(self, view: StudyView, connection: Connection, study: _Shown, *, is_live: bool) -> bool:
        front = tuple(trial.number for trial in view.front.points)
        if is_live and self._front is not None:
            patience = FRONT_SECONDS if front != self._front else TABLE_SECONDS
            if self._clock() - self._files_at < patience:
                return False
        digest = files_digest(view, is_live=is_live)
        if study.files == digest:
            return False
        from mlflow.entities import RunTag

        with tempfile.TemporaryDirectory(prefix="sparsesearch-") as name:
            folder = Path(name)
            write_all(view, folder)
            self._write_files(view.spec, view.front, folder)
            if not is_live:
                self._write_last(view.spec, view.front, folder)
            connection.client.log_artifacts(study.run_id, str(folder))
        tags = [RunTag("mlflow.loggedArtifacts", TABLES), RunTag(FILES_TAG, digest)]
        connection.client.log_batch(study.run_id, tags=tags)
        study.files = digest
        self._front, self._files_at = front, self._clock()
        return True


def _wanted(view: StudyView, *, is_live: bool) -> Iterator[tuple[str, RunRecord]]:
    """All runs that should be shown, the study's first."""
    yield _STUDY, study_record(view, is_live=is_live)
    for trial in view.trained:
        yield str(trial.number), trial_record(view, trial)


def _is_same(shown: _Shown, record: RunRecord) -> bool:
    return shown.digest == record.digest and shown.status == record.status


def _search(view: StudyView, connection: Connection) -> Iterator[Run]:
    tags = identity(view)
    filters = [f"tags.`{name}` = '{tags[name]}'" for name in (STUDY_TAG, CREATED_TAG)]
    token: str | None = None
    while True:
        page = connection.client.search_runs(
            [connection.experiment_id], filter_string=" and ".join(filters), max_results=1000, page_token=token
        )
        yield from page
        token = page.token
        if not token:
            return


def _look(view: StudyView, connection: Connection) -> tuple[dict[str, _Shown], int]:
    """The runs that MLflow holds of this study, and how many doubles were deleted."""
    groups: dict[str, list[Run]] = {}
    for run in _search(view, connection):
        groups.setdefault(run.data.tags.get(TRIAL_TAG, _STUDY), []).append(run)
    shown: dict[str, _Shown] = {}
    removed = 0
    for key, runs in groups.items():
        runs.sort(key=lambda run: (SYNCED_TAG not in run.data.tags, run.info.run_id))
        for double in runs[1:]:
            connection.client.delete_run(double.info.run_id)
            removed += 1
        info, data = runs[0].info, runs[0].data
        shown[key] = _Shown(
            run_id=info.run_id,
            status=info.status,
            digest=data.tags.get(SYNCED_TAG),
            params=set(data.params),
            points=set(),
            parent=data.tags.get(_PARENT_TAG),
            files=data.tags.get(FILES_TAG),
        )
    return shown, removed


def _create(connection: Connection, record: RunRecord, *, parent: str | None) -> _Shown:
    tags = {**record.identity, "mlflow.source.name": "sparsesearch", "mlflow.source.type": "LOCAL"}
    if parent is not None:
        tags[_PARENT_TAG] = parent
    run = connection.client.create_run(
        connection.experiment_id, start_time=record.start_ms, tags=tags, run_name=record.name
    )
    return _Shown(run.info.run_id, run.info.status, digest=None, params=set(), points=set(), parent=parent)


def _update(connection: Connection, shown: _Shown, record: RunRecord, *, parent: str | None) -> None:
    """One batch (more for more than some hundred epochs), its tags last: a run without them is completed later."""
    from mlflow.entities import Metric, Param, RunTag

    client = connection.client
    if parent is not None and shown.parent != parent:  # the older study's run was deleted
        client.set_tag(shown.run_id, _PARENT_TAG, parent)
        shown.parent = parent
    if shown.digest != record.digest:
        params = [Param(key, value) for key, value in record.params.items() if key not in shown.params]
        page = f"#/experiments/{connection.experiment_id}/runs/{shown.run_id}"
        texts = {key: value.replace(RUN_PAGE, page) for key, value in record.tags.items()}
        tags = [RunTag(key, value) for key, value in {**texts, SYNCED_TAG: record.digest}.items()]
        points = [point for point in record.metrics if point not in shown.points]
        batches = [points[start : start + _BATCH] for start in range(0, len(points), _BATCH)] or [[]]
        for number, batch in enumerate(batches, start=1):
            is_last = number == len(batches)
            metrics = [Metric(point.key, point.value, point.time_ms, point.step) for point in batch]
            client.log_batch(
                shown.run_id, metrics=metrics, params=params if number == 1 else (), tags=tags if is_last else ()
            )
        shown.params.update(record.params)
        shown.points.update(points)
    if record.status in ("RUNNING", "SCHEDULED"):
        if shown.status != record.status:
            client.update_run(shown.run_id, status=record.status)
    else:
        client.set_terminated(shown.run_id, status=record.status, end_time=record.end_ms)
    shown.digest, shown.status = record.digest, record.status

"""The runs of a study in MLflow: find them, create them, and bring them up to date."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sparsesearch.analysis.view import StudyView
from sparsesearch.tracking.connection import Connection
from sparsesearch.tracking.note import RUN_PAGE
from sparsesearch.tracking.progress_metrics import Point
from sparsesearch.tracking.records import (
    CREATED_TAG,
    FILES_TAG,
    OLD_SYNCED_TAG,
    OLD_TAGS,
    STUDY_KEY,
    STUDY_TAG,
    SYNCED_TAG,
    TRIAL_TAG,
    RunRecord,
    identity,
)

if TYPE_CHECKING:
    from mlflow.entities import Run

_PARENT_TAG, _BATCH = "mlflow.parentRunId", 900


@dataclass
class StoredRun:
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
        """Whether it shows what a record says."""
        return self.digest == record.digest and self.status == record.status


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


def find_runs(view: StudyView, connection: Connection) -> tuple[dict[str, StoredRun], int]:
    """Find the runs of this study in MLflow, and delete duplicates; return the runs and the number of duplicates."""
    groups: dict[str, list[Run]] = {}
    for run in _search(view, connection):
        groups.setdefault(run.data.tags.get(TRIAL_TAG, STUDY_KEY), []).append(run)
    stored: dict[str, StoredRun] = {}
    removed = 0
    for key, runs in groups.items():
        runs.sort(
            key=lambda run: (SYNCED_TAG not in run.data.tags and OLD_SYNCED_TAG not in run.data.tags, run.info.run_id)
        )
        for duplicate in runs[1:]:
            connection.client.delete_run(duplicate.info.run_id)
            removed += 1
        info, data = runs[0].info, runs[0].data
        stored[key] = StoredRun(
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


def create_run(connection: Connection, record: RunRecord, *, parent: str | None) -> StoredRun:
    """Create a run without contents, which `update_run` adds."""
    tags = {**record.identity, "mlflow.source.name": "sparsesearch", "mlflow.source.type": "LOCAL"}
    if parent is not None:
        tags[_PARENT_TAG] = parent
    run = connection.client.create_run(
        connection.experiment_id, start_time=record.start_ms, tags=tags, run_name=record.name
    )
    return StoredRun(run.info.run_id, run.info.status, digest=None, params=set(), points=set(), parent=parent)


def update_run(connection: Connection, stored: StoredRun, record: RunRecord, *, parent: str | None) -> None:
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

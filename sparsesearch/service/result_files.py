"""Files of finished studies: controllers write them, and the service offers them from the same folder."""

from __future__ import annotations

from pathlib import Path

from sparsesearch.store.sql import SqlStore


def result_file(store: SqlStore, results: Path | None, study: str, name: str) -> Path | None:
    """The file of a study; None if it was not written, or by an earlier study of that name.

    Args:
        store: The store.
        results: The folder with the results of all studies; None for none.
        study: Name of the study.
        name: Name of the file.

    Raises:
        StudyNotFoundError: There is no such study.
    """
    created_at = store.times(study, numbers=()).created_at
    path = None if results is None else results / study / name
    return path if path is not None and path.is_file() and path.stat().st_mtime >= created_at else None

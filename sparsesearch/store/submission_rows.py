"""Read and write the rows of submitted studies."""

from __future__ import annotations

import json

from sqlalchemy import Connection, insert, select, update

from sparsesearch.store import codec
from sparsesearch.store.service_tables import submissions
from sparsesearch.study.submission import Changes, Submission


def add_submission(connection: Connection, study_id: int, submission: Submission) -> None:
    """Add the row of a study."""
    fields = submission.model_dump(exclude={"changes"})
    changes = json.dumps(submission.changes.model_dump())
    connection.execute(insert(submissions).values(study_id=study_id, changes=changes, **fields))


def read_submission(connection: Connection, study_id: int) -> Submission | None:
    """The submission of a study; None if it was not submitted."""
    row = connection.execute(select(submissions).where(submissions.c.study_id == study_id)).mappings().first()
    return None if row is None else submission_of(row)


def submission_of(row: codec.Row) -> Submission:
    """The submission of a row."""
    fields = {
        name: row[name] for name in ("owner", "priority", "submitted_at", "not_before", "num_faults", "mlflow_page")
    }
    changes = row["changes"]
    return Submission(**fields, changes=Changes() if changes is None else Changes.model_validate_json(changes))


def set_submission(connection: Connection, study_id: int, **values: object) -> None:
    """Change columns of a row."""
    connection.execute(update(submissions).where(submissions.c.study_id == study_id).values(**values))

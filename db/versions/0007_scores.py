"""Trials have the score of their last measurement, and indices for what `status`, `front` and `studies` show.

Leases also end by a clock that does not jump. Those of older versions have none, and end by the time of day.

Revision: 0007
Follows: 0006
"""

from __future__ import annotations

import json
import math

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_ROWS_AT_ONCE = 10_000


def upgrade() -> None:
    op.add_column("leases", sa.Column("boot", sa.Text()))
    op.add_column("leases", sa.Column("steady_until", sa.Double()))
    op.add_column("trials", sa.Column("score", sa.Double()))
    _fill_scores()
    op.create_index(
        "ix_trials_state",
        "trials",
        ["study_id", "state", "fidelity", "origin", "score", "macs", "latency_ms", "predicted_ms", "number"],
    )
    op.create_index("ix_trials_ended_at", "trials", ["study_id", "ended_at"])
    retried = sa.text("attempt > 1")
    op.create_index(
        "ix_trials_retried", "trials", ["study_id", "number"], sqlite_where=retried, postgresql_where=retried
    )


def downgrade() -> None:
    for name in ("ix_trials_retried", "ix_trials_ended_at", "ix_trials_state"):
        op.drop_index(name, "trials")
    op.drop_column("trials", "score")
    op.drop_column("leases", "steady_until")
    op.drop_column("leases", "boot")


def _fill_scores() -> None:
    """All studies of earlier versions have the metric `val_top1`."""
    if op.get_context().as_sql:  # there is no database to read: older studies have no front
        return
    connection = op.get_bind()
    latest = sa.text(
        "SELECT m.study_id, m.number, m.metrics FROM measurements m WHERE m.step = "
        "(SELECT max(l.step) FROM measurements l WHERE l.study_id = m.study_id AND l.number = m.number)"
    )
    fill = sa.text("UPDATE trials SET score = :score WHERE study_id = :study AND number = :number")
    rows = [
        {"study": study, "number": number, "score": score}
        for study, number, metrics in connection.execute(latest)
        if math.isfinite(score := json.loads(metrics).get("val_top1", math.nan))
    ]
    for first in range(0, len(rows), _ROWS_AT_ONCE):
        connection.execute(fill, rows[first : first + _ROWS_AT_ONCE])

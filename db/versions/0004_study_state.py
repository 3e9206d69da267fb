"""Studies have a state, a reason and a request to stop; leases show the work under way.

The state of a stored study is derived from its trials. Where they do not tell, it is PAUSED: resuming it
finishes it at once if nothing is left to do.

Revision: 0004
Follows: 0003
"""

from __future__ import annotations

import json
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("studies", sa.Column("state", sa.Text(), nullable=False, server_default="PAUSED"))
    op.add_column("studies", sa.Column("reason", sa.Text(), nullable=True))
    op.add_column("studies", sa.Column("request", sa.Text(), nullable=True))
    op.add_column("leases", sa.Column("work", sa.Text(), nullable=True))
    if op.get_context().as_sql:  # there is no database to read: the states stay PAUSED
        return
    connection = op.get_bind()
    for study_id, spec in connection.execute(sa.text("SELECT id, spec FROM studies")).all():
        trials = connection.execute(
            sa.text("SELECT number, fidelity, origin, state, reason FROM trials WHERE study_id = :id ORDER BY number"),
            {"id": study_id},
        ).all()
        state, reason = state_of(json.loads(spec), trials)
        connection.execute(
            sa.text("UPDATE studies SET state = :state, reason = :reason WHERE id = :id"),
            {"state": state, "reason": reason, "id": study_id},
        )


def downgrade() -> None:
    op.drop_column("leases", "work")
    for name in ("request", "reason", "state"):
        op.drop_column("studies", name)


def state_of(spec: dict[str, Any], trials: Any) -> tuple[str, str | None]:
    """Return the state of a stored study and its reason.

    Args:
        spec: The document of the study.
        trials: Its trials in order: number, fidelity, origin, state, reason.
    """
    for number, fidelity, _, state, reason in trials:
        if fidelity in ("dense", "supernet_training") and state == "FAILED":
            return "FAILED", f"trial {number}: {reason}"
    if any(state in ("WAITING", "RUNNING") for _, _, _, state, _ in trials):
        return "PAUSED", None
    fidelity = spec.get("fidelity", {})
    is_timed = spec.get("time_budget_s") is not None
    searched = [trial for trial in trials if trial.origin == "search"]
    tuned = [trial for trial in searched if trial.fidelity == "finetune"]
    screened = [trial for trial in searched if trial.fidelity != "finetune"]
    if fidelity.get("strategy") == "finetune":
        screened, wanted = tuned, 1
    else:
        wanted = min(fidelity.get("finalists", 1), sum(trial.state == "COMPLETE" for trial in screened))
    is_complete = len(screened) >= fidelity.get("evaluations", 1) and len(tuned) >= wanted
    is_enough = is_timed and len(tuned) >= 1
    return ("FINISHED" if tuned and (is_complete or is_enough) else "PAUSED"), None

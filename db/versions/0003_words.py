"""The supernet's training is called `supernet_training`, no longer `elastic`; REJECTED trials are FAILED ones.

Revision: 0003
Follows: 0002
"""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("trials", "measurements"):
        op.execute(f"UPDATE {table} SET fidelity = 'supernet_training' WHERE fidelity = 'elastic'")
    op.execute("UPDATE trials SET label = 'supernet' WHERE label = 'elastic' AND origin = 'reference'")
    op.execute("UPDATE trials SET state = 'FAILED' WHERE state = 'REJECTED'")
    op.execute("UPDATE trials SET state = 'WAITING' WHERE state = 'PAUSED'")


def downgrade() -> None:
    for table in ("trials", "measurements"):
        op.execute(f"UPDATE {table} SET fidelity = 'elastic' WHERE fidelity = 'supernet_training'")
    op.execute("UPDATE trials SET label = 'elastic' WHERE label = 'supernet' AND origin = 'reference'")

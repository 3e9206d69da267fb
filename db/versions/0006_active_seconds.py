"""Each study counts the seconds that processes have worked on it, so that a resumed study keeps to its time budget.

Older studies start at 0.

Revision: 0006
Follows: 0005
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("leases", sa.Column("active_s", sa.Double(), nullable=False, server_default="0"))


def downgrade() -> None:
    op.drop_column("leases", "active_s")

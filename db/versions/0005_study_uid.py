"""Each study has a unique id, which names its folder of checkpoints.

Databases that share a storage folder may contain studies of the same name. Checkpoints of older studies stay in the
folder that is named by the study alone, where they are found by their hash.

Revision: 0005
Follows: 0004
"""

from __future__ import annotations

from uuid import uuid4

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("studies", sa.Column("uid", sa.Text(), nullable=True))
    if op.get_context().as_sql:  # there is no database to read: older studies keep the folder of their name
        return
    connection = op.get_bind()
    for (study_id,) in connection.execute(sa.text("SELECT id FROM studies")).all():
        connection.execute(
            sa.text("UPDATE studies SET uid = :uid WHERE id = :id"), {"uid": uuid4().hex, "id": study_id}
        )


def downgrade() -> None:
    op.drop_column("studies", "uid")

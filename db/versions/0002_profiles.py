"""Latency profiles of devices; predicted and confirmed latencies of trials.

Revision: 0002
Follows: 0001
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("trials", sa.Column("predicted_ms", sa.Double(), nullable=True))
    op.add_column("trials", sa.Column("confirmed", sa.Text(), nullable=True))
    op.create_table(
        "profiles",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("backbone", sa.Text(), nullable=False),
        sa.Column("shape", sa.Text(), nullable=False),
        sa.Column("fingerprint", sa.Text(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_profiles"),
    )
    op.create_index("ix_profiles_fingerprint_shape", "profiles", ["fingerprint", "shape"])


def downgrade() -> None:
    op.drop_index("ix_profiles_fingerprint_shape", table_name="profiles")
    op.drop_table("profiles")
    op.drop_column("trials", "confirmed")
    op.drop_column("trials", "predicted_ms")

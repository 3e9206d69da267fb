"""Add the images that each trial classifies correctly, for comparisons by pairs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "hits",
        sa.Column("study_id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("number", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("images", sa.Text(), nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.Column("bits", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("study_id", "number", name="pk_hits"),
        sa.ForeignKeyConstraint(
            ["study_id", "number"],
            ["trials.study_id", "trials.number"],
            name="fk_hits_study_id_number_trials",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    op.drop_table("hits")

"""Keep where a submitted study is in MLflow, and up to which change; drop an index that no query uses."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("submissions", sa.Column("mlflow_change", sa.BigInteger()))
    op.add_column("submissions", sa.Column("mlflow_page", sa.Text()))
    op.drop_index("ix_submissions_order", table_name="submissions")


def downgrade() -> None:
    op.create_index("ix_submissions_order", "submissions", ["priority", "submitted_at"])
    op.drop_column("submissions", "mlflow_page")
    op.drop_column("submissions", "mlflow_change")

"""The tables of the service: the queue, its controllers, access tokens, the audit trail, and notifications."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

from sparsesearch.store.tables import metadata

submissions = Table(
    "submissions",
    metadata,
    Column(
        "study_id",
        Integer,
        ForeignKey("studies.id", name="fk_submissions_study_id_studies", ondelete="CASCADE"),
        nullable=False,
        autoincrement=False,
    ),
    Column("owner", Text, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("submitted_at", Double, nullable=False),
    Column("not_before", Double, nullable=False),
    Column("num_faults", Integer, nullable=False),
    Column("changes", Text),
    Column("told_state", Text),
    Column("told_best", Integer),
    Column("mlflow_change", BigInteger),
    Column("mlflow_page", Text),
    PrimaryKeyConstraint("study_id", name="pk_submissions"),
)

controllers = Table(
    "controllers",
    metadata,
    Column("id", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("running", Text, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    PrimaryKeyConstraint("id", name="pk_controllers"),
)

tokens = Table(
    "tokens",
    metadata,
    Column("name", Text, nullable=False),
    Column("sha256", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    Column("used_at", Double),
    PrimaryKeyConstraint("name", name="pk_tokens"),
    UniqueConstraint("sha256", name="uq_tokens_sha256"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), nullable=False, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("who", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("what", Text, nullable=False),
    Column("before", Text),
    Column("after", Text),
    PrimaryKeyConstraint("id", name="pk_audit"),
    Index("ix_audit_what", "what", "id"),
)

subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", Text, nullable=False),
    Column("url", Text, nullable=False),
    Column("secret", Text, nullable=False),
    Column("events", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("id", name="pk_subscriptions"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("id", Text, nullable=False),
    Column(
        "webhook_id",
        Text,
        ForeignKey("subscriptions.id", name="fk_deliveries_webhook_id_subscriptions", ondelete="CASCADE"),
        nullable=False,
    ),
    Column("event", Text, nullable=False),
    Column("study", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next_at", Double),
    Column("status", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("id", name="pk_deliveries"),
    Index("ix_deliveries_next_at", "next_at"),
    Index("ix_deliveries_webhook_id", "webhook_id", "created_at"),
)

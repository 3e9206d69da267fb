"""The table definitions for SQLite and PostgreSQL. See `db/README.md` for a diagram."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
    UniqueConstraint,
)

REVISION = "0010"
"""The revision of these tables; a test checks that it is the newest file in `db/versions`."""

VERSION_TABLE = "sparsesearch_version"
"""Name of the table with the revision: specific to sparsesearch, so that databases of other programs are detected."""

metadata = MetaData()

studies = Table(
    "studies",
    metadata,
    Column("id", Integer, nullable=False, autoincrement=False),
    Column("name", Text, nullable=False),
    Column("spec", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("state", Text, nullable=False, server_default="PAUSED"),
    Column("reason", Text),
    Column("request", Text),
    Column("uid", Text),
    PrimaryKeyConstraint("id", name="pk_studies"),
    UniqueConstraint("name", name="uq_studies_name"),
    Index("ix_studies_state", "state"),
)

leases = Table(
    "leases",
    metadata,
    Column(
        "study_id",
        Integer,
        ForeignKey("studies.id", name="fk_leases_study_id_studies", ondelete="CASCADE"),
        nullable=False,
        autoincrement=False,
    ),
    Column("owner", Text),
    Column("generation", Integer, nullable=False),
    Column("expires_at", Double, nullable=False),
    Column("host", Text, nullable=False),
    Column("machine", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("process_start", BigInteger),
    Column("work", Text),
    Column("active_s", Double, nullable=False, server_default="0"),
    Column("boot", Text),
    Column("steady_until", Double),
    PrimaryKeyConstraint("study_id", name="pk_leases"),
)

trials = Table(
    "trials",
    metadata,
    Column(
        "study_id",
        Integer,
        ForeignKey("studies.id", name="fk_trials_study_id_studies", ondelete="CASCADE"),
        nullable=False,
        autoincrement=False,
    ),
    Column("number", Integer, nullable=False, autoincrement=False),
    Column("state", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    Column("fidelity", Text, nullable=False),
    Column("origin", Text, nullable=False),
    Column("label", Text, nullable=False),
    Column("key", Text, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("parent", Integer),
    Column("budget_macs", BigInteger),
    Column("macs", BigInteger, nullable=False),
    Column("params", BigInteger, nullable=False),
    Column("latency_ms", Double),
    Column("predicted_ms", Double),
    Column("confirmed", Text),
    Column("schedule", Text, nullable=False),
    Column("proposal", Text),
    Column("reason", Text),
    Column("checkpoint_uri", Text),
    Column("checkpoint_sha256", Text),
    Column("checkpoint_step", Integer),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("started_at", Double),
    Column("ended_at", Double),
    Column("score", Double),
    Column("change", BigInteger, nullable=False, server_default="0"),
    PrimaryKeyConstraint("study_id", "number", name="pk_trials"),
    UniqueConstraint("study_id", "key", "fidelity", "seed", name="uq_trials_study_id_key_fidelity_seed"),
    Index(
        "ix_trials_state",
        "study_id",
        "state",
        "fidelity",
        "origin",
        "score",
        "macs",
        "latency_ms",
        "predicted_ms",
        "number",
    ),
    Index("ix_trials_ended_at", "study_id", "ended_at"),
    Index("ix_trials_change", "study_id", "change"),
)
Index(
    "ix_trials_retried",
    trials.c.study_id,
    trials.c.number,
    sqlite_where=trials.c.attempt > 1,
    postgresql_where=trials.c.attempt > 1,
)

measurements = Table(
    "measurements",
    metadata,
    Column("study_id", Integer, nullable=False, autoincrement=False),
    Column("number", Integer, nullable=False, autoincrement=False),
    Column("step", Integer, nullable=False, autoincrement=False),
    Column("attempt", Integer, nullable=False),
    Column("fidelity", Text, nullable=False),
    Column("metrics", Text, nullable=False),
    Column("seconds", Double, nullable=False),
    Column("seed", BigInteger, nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("study_id", "number", "step", name="pk_measurements"),
    ForeignKeyConstraint(
        ["study_id", "number"],
        ["trials.study_id", "trials.number"],
        name="fk_measurements_study_id_number_trials",
        ondelete="CASCADE",
    ),
)

hits = Table(
    "hits",
    metadata,
    Column("study_id", Integer, nullable=False, autoincrement=False),
    Column("number", Integer, nullable=False, autoincrement=False),
    Column("images", Text, nullable=False),
    Column("count", Integer, nullable=False),
    Column("bits", Text, nullable=False),
    PrimaryKeyConstraint("study_id", "number", name="pk_hits"),
    ForeignKeyConstraint(
        ["study_id", "number"],
        ["trials.study_id", "trials.number"],
        name="fk_hits_study_id_number_trials",
        ondelete="CASCADE",
    ),
)

profiles = Table(
    "profiles",
    metadata,
    Column("name", Text, nullable=False),
    Column("backbone", Text, nullable=False),
    Column("shape", Text, nullable=False),
    Column("fingerprint", Text, nullable=False),
    Column("document", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    PrimaryKeyConstraint("name", name="pk_profiles"),
    Index("ix_profiles_fingerprint_shape", "fingerprint", "shape"),
)

CLOCK_COLUMNS: Mapping[str, frozenset[str]] = MappingProxyType(
    {
        "studies": frozenset({"created_at", "uid"}),
        "leases": frozenset(column.name for column in leases.columns),
        "trials": frozenset(
            {"created_at", "updated_at", "started_at", "ended_at", "latency_ms", "confirmed", "change"}
        ),
        "measurements": frozenset({"seconds", "created_at"}),
        "hits": frozenset(),
        "profiles": frozenset({"created_at"}),
        "submissions": frozenset({"submitted_at", "not_before", "mlflow_change", "mlflow_page"}),
        "controllers": frozenset({"id", "host", "pid", "slots", "running", "started_at", "seen_at"}),
        "tokens": frozenset({"sha256", "created_at", "expires_at", "revoked_at", "used_at"}),
        "audit": frozenset({"at"}),
        "subscriptions": frozenset({"id", "secret", "created_at"}),
        "deliveries": frozenset({"id", "next_at", "created_at"}),
    }
)
"""Columns with timestamps, unique ids, processes and measured times. On the CPU, all other columns of a study that was
killed and resumed are byte-identical to those of an uninterrupted study."""

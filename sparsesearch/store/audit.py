"""The audit trail: who changed what, when, and how it was before and after."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from sparsesearch.store.database import Database
from sparsesearch.store.service_tables import audit
from sparsesearch.study.submission import AuditEntry


@dataclass(frozen=True)
class Actor:
    """Somebody who changes something.

    Attributes:
        name: Name of the token.
    """

    name: str

    def note(
        self,
        connection: Connection,
        action: str,
        what: str,
        *,
        at: float,
        before: str | None = None,
        after: str | None = None,
    ) -> None:
        """Add a change to the trail, in the transaction that makes it."""
        row = {"at": at, "who": self.name, "action": action, "what": what, "before": before, "after": after}
        connection.execute(insert(audit).values(**row))


def read_audit(
    database: Database, *, what: str | None = None, before: int | None = None, limit: int = 100
) -> Sequence[AuditEntry]:
    """Return the newest entries, newest first.

    Args:
        database: The database.
        what: Only what was done to this.
        before: Only entries with lower numbers.
        limit: At most this many.
    """
    query = select(audit).order_by(audit.c.id.desc()).limit(limit)
    if what is not None:
        query = query.where(audit.c.what == what)
    if before is not None:
        query = query.where(audit.c.id < before)
    rows = database.read(lambda connection: connection.execute(query).mappings().all())
    return [AuditEntry(number=row["id"], **{name: row[name] for name in _FIELDS}) for row in rows]


_FIELDS = ("at", "who", "action", "what", "before", "after")

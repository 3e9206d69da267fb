"""The processes that run submitted studies, as others see them."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence

from sqlalchemy import Connection, delete, insert, select, update

from sparsesearch.store.database import Database
from sparsesearch.store.service_tables import controllers
from sparsesearch.value import Value

ALIVE_S = 30.0
"""A controller that was not seen for so long counts as lost."""


class ControllerRow(Value):
    """A controller.

    Attributes:
        id: Its unique id.
        host: Name of its host.
        pid: Its process id there.
        slots: How many studies it runs at once.
        running: Names of the studies that it runs.
        started_at: Unix time at which it was started.
        seen_at: Unix time of its last sign of life.
    """

    id: str
    host: str
    pid: int
    slots: int
    running: tuple[str, ...] = ()
    started_at: float
    seen_at: float


class SqlControllers:
    """The controllers of a database whose tables exist."""

    def __init__(self, database: Database, *, clock: Callable[[], float]) -> None:
        """Use a database; see `SqlStore.controllers`."""
        self._database = database
        self._clock = clock

    def beat(self, controller_id: str, *, host: str, pid: int, slots: int, running: Collection[str]) -> None:
        """Store a sign of life, and remove the rows of controllers that have been silent for a day."""
        now = self._clock()
        values = {"slots": slots, "running": json.dumps(sorted(running)), "seen_at": now}

        def work(connection: Connection) -> None:
            found = update(controllers).where(controllers.c.id == controller_id).values(**values)
            if connection.execute(found).rowcount == 0:
                fields = {"id": controller_id, "host": host, "pid": pid, "started_at": now}
                connection.execute(insert(controllers).values(**fields, **values))
                connection.execute(delete(controllers).where(controllers.c.seen_at < now - 86_400.0))

        self._database.write(work)

    def leave(self, controller_id: str) -> None:
        """Remove a controller that ends."""
        gone = delete(controllers).where(controllers.c.id == controller_id)
        self._database.write(lambda connection: connection.execute(gone))

    def all(self) -> Sequence[ControllerRow]:
        """Return all controllers, the newest first; those that are lost as well."""
        query = select(controllers).order_by(controllers.c.started_at.desc())
        rows = self._database.read(lambda connection: connection.execute(query).mappings().all())
        return [ControllerRow(**{**row, "running": tuple(json.loads(row["running"]))}) for row in rows]

    def alive(self) -> Sequence[ControllerRow]:
        """Return those that were seen lately."""
        now = self._clock()
        return [one for one in self.all() if now - one.seen_at < ALIVE_S]

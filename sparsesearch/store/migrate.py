"""Read the schema revision of a database, and migrate it to the newest (with Alembic, from `db/`).

Alembic is imported only to run a migration; opening a database needs only its revision.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from sqlalchemy import Connection, inspect, select, table
from sqlalchemy.sql import column

from sparsesearch.errors import StoreError, StoreVersionError
from sparsesearch.files.package_files import bundled
from sparsesearch.store.database import Database
from sparsesearch.store.moment import SERVER_TIME
from sparsesearch.store.tables import REVISION, VERSION_TABLE

if TYPE_CHECKING:
    from alembic.config import Config

_ALEMBIC = threading.Lock()  # its environment is one per process


def prepare(database: Database) -> None:
    """Create the tables of a new database, or check the revision of an existing one.

    Raises:
        StoreVersionError: The database is at another revision.
        StoreError: It cannot be opened, or belongs to another program.
    """
    found = database.read(lambda connection: _revision(connection, where=database.where))
    if found is None:
        _upgrade(database)
    elif found != REVISION:
        _check_not_newer(found, where=database.where)
        raise StoreVersionError(
            f"{database.where} is at revision {found}, but this version needs {REVISION}; run: sparsesearch db upgrade"
        )


def upgrade(url: str) -> str:
    """Upgrade a database to the newest revision, if it is older, and return that revision.

    Args:
        url: As for `open_store`.

    Raises:
        StoreVersionError: The database was written by a newer version.
        StoreError: It cannot be opened, belongs to another program, or a study is running.
    """
    database = Database(url)
    try:
        _upgrade(database)
    finally:
        database.close()
    return REVISION


def current_revision(url: str) -> str | None:
    """Return the revision of a database, None for an empty one.

    Args:
        url: As for `open_store`.

    Raises:
        StoreError: It cannot be opened, or belongs to another program.
    """
    database = Database(url)
    try:
        with database.reading() as connection:
            return _revision(connection, where=database.where)
    finally:
        database.close()


def alembic_config() -> Config:
    """Return the Alembic configuration for the bundled migrations."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(bundled("db")).replace("%", "%%"))
    return config


def _upgrade(database: Database) -> None:
    with database.migrating() as connection:
        found = _revision(connection, where=database.where)
        if found == REVISION:
            return
        if found is not None:
            _check_not_newer(found, where=database.where)
            _check_not_used(connection, is_sqlite=database.is_sqlite, where=database.where)
        _run_alembic(connection)


def _revision(connection: Connection, *, where: str) -> str | None:
    names = set(inspect(connection).get_table_names())
    if VERSION_TABLE in names:
        found = connection.scalar(select(column("version_num")).select_from(table(VERSION_TABLE)))
        if found is not None:
            return str(found)
        names.remove(VERSION_TABLE)
    if names:
        raise StoreError(
            f"{where} contains tables of another program ({', '.join(sorted(names)[:3])}); use a separate database for "
            "sparsesearch"
        )
    return None


def _check_not_newer(found: str, *, where: str) -> None:
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(alembic_config()).walk_revisions()}
    if found not in known:
        raise StoreVersionError(
            f"{where} was written by a newer version of sparsesearch (revision {found}, this version supports up to "
            f"{REVISION}); run: pip install --upgrade sparsesearch"
        )


def _check_not_used(connection: Connection, *, is_sqlite: bool, where: str) -> None:
    """Check that no process of an older version is running a study: it could not write any more.

    Raises:
        StoreError: One is.
    """
    now = time.time() if is_sqlite else connection.execute(select(SERVER_TIME)).scalar_one()
    leases = table("leases", column("owner"), column("expires_at"))
    alive = select(leases.c.expires_at).where(leases.c.owner.is_not(None), leases.c.expires_at > now)
    found = list(connection.scalars(alive.order_by(leases.c.expires_at.desc())))
    if found:
        raise StoreError(
            f"{where} is in use: {len(found)} studies are running; stop their controllers and processes first "
            f"(sparsesearch stop STUDY), or, if they were lost, wait {max(1, round(found[0] - now))} s"
        )


def _run_alembic(connection: Connection) -> None:
    from alembic import command

    config = alembic_config()
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, "head")

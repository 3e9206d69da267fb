"""The study database: it opens, can be written, has the revision of this version, and a clock like ours."""

from __future__ import annotations

import time

from sqlalchemy import text

from sparsesearch.app.doctor.disks import database_file
from sparsesearch.app.doctor.finding import FailedCheckError, Surroundings
from sparsesearch.store.database import Database
from sparsesearch.store.migrate import current_revision
from sparsesearch.store.tables import REVISION, VERSION_TABLE

MAX_CLOCK_DIFFERENCE_S = 30.0


class _Undo(Exception):
    pass


def database(surroundings: Surroundings) -> str:
    """Open the database and write to it in a transaction that is rolled back; a new one is not created."""
    url, path = surroundings.settings.database_url, database_file(surroundings)
    is_new = path is not None and not path.exists()
    if is_new and path is not None and not path.parent.is_dir():  # `Database` would create the folder
        return f"{path} does not exist yet; the first study creates it"
    opened = Database(url)
    if is_new:
        return f"{opened.where} does not exist yet; the first study creates it"
    revision = current_revision(url)
    if revision is None:
        return f"{opened.where} is empty; the first study creates its tables"
    if revision != REVISION:
        raise FailedCheckError(
            f"{opened.where} is at revision {revision}, and this version needs {REVISION}",
            fix="run: sparsesearch db upgrade, or install the version of sparsesearch that wrote it",
        )
    difference = 0.0
    try:
        with opened.writing() as connection:
            connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = version_num"))
            if not opened.is_sqlite:
                asked = time.time()
                there = float(connection.scalar(text("SELECT extract(epoch FROM clock_timestamp())")) or 0.0)
                difference = there - (asked + time.time()) / 2
            raise _Undo
    except _Undo:
        pass
    finally:
        opened.close()
    if abs(difference) > MAX_CLOCK_DIFFERENCE_S:
        ahead = "ahead of" if difference > 0 else "behind"
        raise FailedCheckError(
            f"the clock of {opened.where} is {abs(difference):.0f} s {ahead} that of this machine",
            fix="set both clocks by NTP: timedatectl set-ntp true",
        )
    clock = "" if opened.is_sqlite else f", its clock is {difference:+.1f} s from ours"
    return f"{opened.where}, revision {revision}, can be written{clock}"

"""The tables in a database are those of the program, on SQLite and on PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import text

from sparsesearch.errors import StoreError, StoreVersionError
from sparsesearch.store import migrate
from sparsesearch.store.database import Database
from sparsesearch.store.sql import open_store
from sparsesearch.store.tables import REVISION, VERSION_TABLE, metadata
from sparsesearch.study.spec import Budget, StudySpec


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/a.db" if request.param == "sqlite" else request.getfixturevalue("postgres_url")


@pytest.fixture
def database(url: str) -> Iterator[Database]:
    database = Database(url)
    yield database
    database.close()


def test_migrations_make_the_tables_of_the_program(url: str, database: Database) -> None:
    assert migrate.current_revision(url) is None
    migrate.prepare(database)
    assert migrate.current_revision(url) == REVISION
    with database.reading() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    migrate.prepare(database)
    assert migrate.upgrade(url) == REVISION


def test_a_newer_database_is_refused(database: Database) -> None:
    migrate.prepare(database)
    with database.writing() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0999'"))
    with pytest.raises(StoreVersionError, match=r"newer version of sparsesearch \(revision 0999"):
        migrate.prepare(database)


def test_a_database_in_use_is_not_upgraded(url: str, database: Database) -> None:
    """A process of the older version could not write any more, and would lose its work."""
    migrate.prepare(database)
    store = open_store(url)
    writer = store.create_study(StudySpec(name="running", backbone="deit_pico", budget=Budget(high=0.5)))
    with database.writing() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '0008'"))
    with pytest.raises(
        StoreError, match="is in use: 1 studies are running; stop their controllers and processes first"
    ):
        migrate.upgrade(url)
    assert migrate.current_revision(url) == "0008"
    with database.writing() as connection:
        connection.execute(text(f"UPDATE {VERSION_TABLE} SET version_num = '{REVISION}'"))
    writer.close()
    store.close()


def test_another_programs_database_is_refused(database: Database) -> None:
    with database.writing() as connection:
        connection.execute(text("CREATE TABLE experiments (a INTEGER)"))
    with pytest.raises(StoreError, match=r"tables of another program \(experiments\)"):
        migrate.prepare(database)


def test_where_the_data_is_can_be_said_aloud(database: Database) -> None:
    assert "\n" not in database.where
    assert str(database.where)


def test_no_table_has_the_name_of_one_of_mlflows() -> None:
    """Teams point both programs at one database."""
    from mlflow.store.db.base_sql_model import Base
    from mlflow.store.model_registry.dbmodels import models as _registry  # noqa: F401 -- adds its tables
    from mlflow.store.tracking.dbmodels import models as _tracking  # noqa: F401

    theirs = set(Base.metadata.tables)
    assert {"experiments", "webhooks"} <= theirs
    assert not theirs & set(metadata.tables)

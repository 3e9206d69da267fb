"""Runs migrations: on the connection that `sparsesearch.store.migrate` hands over, else on the configured database."""

from __future__ import annotations

from logging.config import fileConfig

from alembic import context
from sqlalchemy import Connection

from sparsesearch.settings import Settings
from sparsesearch.store import service_tables as service_tables
from sparsesearch.store.database import Database
from sparsesearch.store.tables import VERSION_TABLE, metadata


def migrate(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        render_as_batch=connection.dialect.name == "sqlite",
        compare_server_default=True,
    )
    with context.begin_transaction():
        context.run_migrations()


def write_sql(url: str) -> None:
    context.configure(
        url=url,
        target_metadata=metadata,
        version_table=VERSION_TABLE,
        literal_binds=True,
        dialect_opts={"paramstyle": "named"},
    )
    with context.begin_transaction():
        context.run_migrations()


connection = context.config.attributes.get("connection")
if connection is not None:
    migrate(connection)
else:
    if context.config.config_file_name is not None:
        fileConfig(context.config.config_file_name, disable_existing_loggers=False)
    database_url = Settings.from_environment().database_url
    if context.is_offline_mode():
        write_sql(database_url)
    else:
        database = Database(database_url)
        with database.migrating() as connection:
            migrate(connection)
        database.close()

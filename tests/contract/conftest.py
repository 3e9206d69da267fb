"""A PostgreSQL server that lives as long as the test run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from postgres_server import postgres
from sqlalchemy import create_engine, text


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Url of an empty server on a socket of its own; nobody else's server is touched."""
    with postgres() as url:
        yield url


def _emptied(url: str) -> str:
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.begin() as connection:
        connection.execute(text("DROP SCHEMA public CASCADE"))
        connection.execute(text("CREATE SCHEMA public"))
    engine.dispose()
    return url


@pytest.fixture
def postgres_url(postgres_server: str) -> str:
    """URL of a database without any table."""
    return _emptied(postgres_server)


@pytest.fixture(scope="module")
def module_postgres_url(postgres_server: str) -> str:
    """URL of a database without any table, for a module that uses no other."""
    return _emptied(postgres_server)

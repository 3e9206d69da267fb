from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory

from sparsesearch.errors import StoreError, StoreVersionError
from sparsesearch.files.package_files import bundled
from sparsesearch.store import migrate
from sparsesearch.store.database import Database
from sparsesearch.store.sql import open_store
from sparsesearch.store.tables import CLOCK_COLUMNS, REVISION, VERSION_TABLE, metadata


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "studies.db"


def at_revision(path: Path, revision: str) -> str:
    """Url of a database that says it is at a revision."""
    url = f"sqlite:///{path}"
    open_store(url).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = ?", (revision,))
    connection.close()
    return url


def test_the_newest_migration_is_the_one_the_tables_are_at() -> None:
    assert ScriptDirectory.from_config(migrate.alembic_config()).get_heads() == [REVISION]


def test_migrations_make_the_very_same_statements(path: Path, tmp_path: Path) -> None:
    open_store(f"sqlite:///{path}").close()
    direct = Database(f"sqlite:///{tmp_path}/direct.db")
    with direct.writing() as connection:
        metadata.create_all(connection)
    direct.close()
    schemas = []
    for file in (path, tmp_path / "direct.db"):
        with sqlite3.connect(file) as connection:
            rows = connection.execute("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
            schemas.append({name: _parts(sql) for name, sql in rows if name != VERSION_TABLE})
        connection.close()
    assert schemas[0] == schemas[1]
    indices = {index.name for table in metadata.tables.values() for index in table.indexes}
    assert set(schemas[0]) == set(metadata.tables) | indices


def _parts(sql: str) -> list[str]:
    """Columns and constraints of a statement, in no order: SQLite puts columns that are added later at the end."""
    return sorted(part.strip(" \n\t()") for part in re.split(r",|\n", sql) if part.strip(" \n\t()"))


def test_upgrading_again_changes_nothing(path: Path) -> None:
    for _ in range(2):
        assert migrate.upgrade(f"sqlite:///{path}") == REVISION


def test_an_older_database_names_the_command(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    open_store(f"sqlite:///{path}").close()
    monkeypatch.setattr(migrate, "REVISION", "9999")
    with pytest.raises(StoreVersionError) as caught:
        open_store(f"sqlite:///{path}")
    assert (
        str(caught.value)
        == f"{path} is at revision {REVISION}, but this version needs 9999; run: sparsesearch db upgrade"
    )


@pytest.mark.parametrize("verb", ["open", "upgrade"])
def test_a_newer_database_asks_for_a_newer_program(path: Path, verb: str) -> None:
    url = at_revision(path, "0999")
    with pytest.raises(StoreVersionError) as caught:
        open_store(url) if verb == "open" else migrate.upgrade(url)
    assert str(caught.value) == (
        f"{path} was written by a newer version of sparsesearch (revision 0999, this version supports up to "
        f"{REVISION}); run: pip install --upgrade sparsesearch"
    )


@pytest.mark.parametrize("table", ["experiments", "studies", "alembic_version"])
def test_another_programs_database_is_left_alone(path: Path, table: str) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute(f"CREATE TABLE {table} (version_num TEXT)")
    connection.close()
    for attempt in (lambda: open_store(f"sqlite:///{path}"), lambda: migrate.upgrade(f"sqlite:///{path}")):
        with pytest.raises(StoreError) as caught:
            attempt()
        assert str(caught.value) == (
            f"{path} contains tables of another program ({table}); use a separate database for sparsesearch"
        )
    with sqlite3.connect(path) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [(table,)]
    connection.close()


def test_several_threads_may_open_a_new_database(path: Path) -> None:
    failures: list[Exception] = []

    def work() -> None:
        try:
            open_store(f"sqlite:///{path}").close()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_going_down_and_up_again(path: Path) -> None:
    from alembic import command

    database = Database(f"sqlite:///{path}")
    migrate.prepare(database)
    config = migrate.alembic_config()
    with database.migrating() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    database.close()
    assert migrate.current_revision(f"sqlite:///{path}") is None
    open_store(f"sqlite:///{path}").close()
    assert migrate.current_revision(f"sqlite:///{path}") == REVISION


def test_opening_needs_alembic_only_to_migrate(path: Path) -> None:
    open_store(f"sqlite:///{path}").close()
    code = (
        "import sys; from sparsesearch.store.sql import open_store; "
        f"open_store('sqlite:///{path}').studies(); "
        "print([name for name in ('alembic', 'torch', 'timm', 'ray', 'mlflow') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_alembic_can_be_used_by_hand(path: Path) -> None:
    def alembic(*arguments: str) -> str:
        command = [sys.executable, "-m", "alembic", "-c", str(bundled("db") / "alembic.ini"), *arguments]
        environment = {"SPARSESEARCH_DATABASE_URL": f"sqlite:///{path}", "PATH": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "CREATE TABLE trials" in alembic("upgrade", "head", "--sql")
    alembic("upgrade", "head")
    assert f"{REVISION} (head)" in alembic("current")
    assert "No new upgrade operations detected" in alembic("check")


def test_clock_columns_exist() -> None:
    assert set(CLOCK_COLUMNS) == set(metadata.tables)
    for name, columns in CLOCK_COLUMNS.items():
        assert columns <= set(metadata.tables[name].columns.keys())


def test_first_runs_at_once_in_a_new_home(tmp_path: Path) -> None:
    code = (
        "import sys; from sparsesearch.store.sql import open_store; sys.stdin.readline(); "
        f"print(open_store('sqlite:///{tmp_path}/new/home/studies.db').studies())"
    )
    command = [sys.executable, "-c", code]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    processes = [subprocess.Popen(command, text=True, **pipes) for _ in range(4)]
    for process in processes:  # all have imported what they need and wait
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, errors = process.communicate(timeout=120)
        assert (out, errors) == ("[]\n", "")

from __future__ import annotations

import os
import sqlite3
import stat
import sys
import traceback
from pathlib import Path

import pytest
from sqlalchemy.engine import URL

from sparsesearch.errors import MissingExtraError, StoreError, StoreUnavailableError
from sparsesearch.store import filesystem
from sparsesearch.store.database import Database
from sparsesearch.store.sql import open_store
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.state import StudyState

SPEC = StudySpec(name="digits", backbone="deit_pico", budget=Budget(high=0.65))


def one_line(caught: pytest.ExceptionInfo[Exception]) -> str:
    text = str(caught.value)
    assert "\n" not in text
    return text


class TestSqlite:
    def test_every_connection_is_durable_and_checks_references(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/a.db")
        for transaction in (database.reading, database.writing):
            with transaction() as connection:
                values = {
                    name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
                    for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
                }
            assert values == {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "busy_timeout": 30_000}
        database.close()

    def test_writers_lock_from_the_start_and_readers_never(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/a.db")
        with database.writing(), database.reading():
            rival = sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None)
            with pytest.raises(sqlite3.OperationalError, match="locked"):
                rival.execute("BEGIN IMMEDIATE")
            rival.close()
        with database.reading():
            rival = sqlite3.connect(tmp_path / "a.db", timeout=0, isolation_level=None)
            rival.execute("BEGIN IMMEDIATE")
            rival.close()
        database.close()

    def test_a_failed_write_leaves_nothing_not_even_tables(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/a.db")

        def fail() -> None:
            with database.writing() as connection:
                connection.exec_driver_sql("CREATE TABLE t (a INTEGER)")
                connection.exec_driver_sql("INSERT INTO t VALUES (1)")
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail()
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
        database.close()

    def test_references_are_off_only_while_migrating(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/a.db")
        with database.migrating() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 0
        with database.writing() as connection:
            assert connection.exec_driver_sql("PRAGMA foreign_keys").scalar() == 1
        database.close()

    def test_a_migration_that_breaks_references_is_undone(self, tmp_path: Path) -> None:
        database = Database(f"sqlite:///{tmp_path}/a.db")

        def orphan() -> None:
            with database.migrating() as connection:
                connection.exec_driver_sql("CREATE TABLE a (id INTEGER PRIMARY KEY)")
                connection.exec_driver_sql("CREATE TABLE b (a INTEGER REFERENCES a (id))")
                connection.exec_driver_sql("INSERT INTO b VALUES (7)")

        with pytest.raises(StoreError, match="would break foreign keys"):
            orphan()
        with database.reading() as connection:
            assert connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
        database.close()

    def test_a_relative_path_stays_where_it_was(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (tmp_path / "elsewhere").mkdir()
        monkeypatch.chdir(tmp_path)
        store = open_store("sqlite:///new/folder/studies.db")
        monkeypatch.chdir(tmp_path / "elsewhere")
        store.create_study(SPEC)
        store.close()
        assert list(open_store(f"sqlite:///{tmp_path}/new/folder/studies.db").studies()) == ["digits"]

    def test_the_home_folder_may_be_written_short(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(tmp_path))
        open_store("sqlite:///~/studies.db").close()
        assert (tmp_path / "studies.db").is_file()

    def test_a_folder_is_not_a_database(self, tmp_path: Path) -> None:
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{tmp_path}")
        assert one_line(caught) == f"{tmp_path} is a folder; give a file in it, such as {tmp_path}/studies.db"

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{tmp_path}/file/studies.db")
        assert one_line(caught) == f"cannot create the folder {tmp_path}/file (File exists); choose another location"

    def test_garbage_is_not_a_database(self, tmp_path: Path) -> None:
        path = tmp_path / "notes.txt"
        path.write_text("These are my notes. " * 100)
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{path}")
        assert one_line(caught).startswith(f"{path} is not a readable SQLite database (file is not a database); use")
        assert path.read_text() == "These are my notes. " * 100

    def test_an_empty_file_is_a_new_database(self, tmp_path: Path) -> None:
        (tmp_path / "a.db").touch()
        assert list(open_store(f"sqlite:///{tmp_path}/a.db").studies()) == []

    def test_a_damaged_database_is_one_line(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        store = open_store(f"sqlite:///{path}")
        store.create_study(SPEC)
        store.close()
        path.write_bytes(path.read_bytes()[:4096] + b"\xff" * (path.stat().st_size - 4096))
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{path}").trials("digits")
        assert one_line(caught).startswith(str(path))

    def test_a_locked_database_is_one_line(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sparsesearch.store.database.BUSY_SECONDS", 0.1)
        store = open_store(f"sqlite:///{tmp_path}/a.db")
        rival = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError) as caught:
            store.create_study(SPEC)
        assert one_line(caught).startswith(f"{tmp_path}/a.db was locked by another process for 0.1 s; try again")
        rival.close()
        store.create_study(SPEC)

    def test_a_database_that_cannot_be_written_is_one_line(self, tmp_path: Path) -> None:
        open_store(f"sqlite:///{tmp_path}/a.db").close()
        database = Database(f"sqlite:///{tmp_path}/a.db")

        def write() -> None:
            with database.writing() as connection:
                connection.exec_driver_sql("PRAGMA query_only=ON")
                connection.exec_driver_sql("DELETE FROM studies")

        with pytest.raises(StoreError) as caught:
            write()
        assert "readonly database; check that the file and its folder are writable" in one_line(caught)


class TestFiles:
    def test_they_are_private(self, tmp_path: Path) -> None:
        mask = os.umask(0)
        try:
            store = open_store(f"sqlite:///{tmp_path}/new/studies.db")
            store.create_study(SPEC)
        finally:
            os.umask(mask)
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "new").iterdir()}
        assert modes == {"studies.db": 0o600, "studies.db-wal": 0o600, "studies.db-shm": 0o600}
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
        store.close()

    def test_modes_that_somebody_set_are_kept(self, tmp_path: Path) -> None:
        open_store(f"sqlite:///{tmp_path}/a.db").close()
        (tmp_path / "a.db").chmod(0o640)
        tmp_path.chmod(0o750)
        store = open_store(f"sqlite:///{tmp_path}/a.db")
        store.create_study(SPEC)
        assert stat.S_IMODE((tmp_path / "a.db").stat().st_mode) == 0o640
        assert stat.S_IMODE((tmp_path / "a.db-wal").stat().st_mode) == 0o640
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o750
        store.close()

    @pytest.mark.parametrize("name", ["a?mode=memory.db", "a#b.db", "a%41.db", "a b.db", "\xe4.db"])
    def test_names_are_taken_as_they_are(self, tmp_path: Path, name: str) -> None:
        Database(f"sqlite:///{tmp_path}/x.db").close()
        store = open_store(URL.create("sqlite", database=f"{tmp_path}/{name}").render_as_string())
        store.create_study(SPEC)
        assert (tmp_path / name).stat().st_size > 0
        store.close()

    def test_a_deleted_file_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        store = open_store(f"sqlite:///{path}")
        writer = store.create_study(SPEC)
        for file in tmp_path.iterdir():
            file.unlink()
        for use in (lambda: writer.renew(), lambda: writer.trials(), lambda: store.studies()):
            with pytest.raises(StoreUnavailableError) as caught:
                use()
            assert one_line(caught).startswith(f"{path} was deleted or moved while it was in use (No such file")
        assert list(tmp_path.iterdir()) == []
        store.close()

    def test_a_replaced_file_is_noticed(self, tmp_path: Path) -> None:
        path = tmp_path / "a.db"
        store = open_store(f"sqlite:///{path}")
        writer = store.create_study(SPEC)
        other = open_store(f"sqlite:///{tmp_path}/b.db")
        other.create_study(SPEC).close()
        other.close()
        (tmp_path / "b.db").replace(path)
        before = path.read_bytes()
        for use in (lambda: writer.renew(), lambda: writer.close(), lambda: store.studies()):
            with pytest.raises(StoreError) as caught:
                use()
            assert one_line(caught).startswith(f"{path} was replaced by another file while it was in use")
            assert not isinstance(caught.value, StoreUnavailableError)
        assert path.read_bytes() == before
        store.close()

    def test_a_file_that_is_put_back_is_used_again(self, tmp_path: Path) -> None:
        (tmp_path / "there").mkdir()
        lines: list[str] = []

        def put_back(line: str) -> None:
            lines.append(line)
            if len(lines) == 1:
                (tmp_path / "elsewhere").rename(tmp_path / "there")

        store = open_store(f"sqlite:///{tmp_path}/there/a.db", patience_s=60, on_wait=put_back)
        writer = store.create_study(SPEC)
        (tmp_path / "there").rename(tmp_path / "elsewhere")
        writer.set_state(StudyState.FINISHED)
        assert store.condition("digits").state is StudyState.FINISHED
        assert len(lines) == 2
        assert "was deleted or moved" in lines[0]
        store.close()


PASSWORDS = ["secret", "se%40cret", "se:cret", "se/cret", "se?cret", "se%2Fcr%3Aet", "secret@s"]


class TestPasswords:
    @pytest.mark.parametrize("password", PASSWORDS)
    @pytest.mark.parametrize("scheme", ["postgresql", "mysql", "sqlite", "postgresql+psycopg"])
    def test_no_message_has_them(self, password: str, scheme: str) -> None:
        with pytest.raises(StoreError) as caught:
            open_store(f"{scheme}://me:{password}@127.0.0.1:1/db?connect_timeout=2")
        text = one_line(caught)
        assert "me:***@127.0.0.1:1/db" in text
        assert "cret" not in text

    def test_nor_those_in_the_query(self) -> None:
        with pytest.raises(StoreError) as caught:
            open_store("postgresql://me@127.0.0.1:1/db?connect_timeout=2&password=sec%40ret&sslpassword=secret")
        assert "ret" not in one_line(caught)
        assert "&password=***&sslpassword=***" in one_line(caught)

    def test_nor_what_comes_of_them_in_tracebacks(self) -> None:
        with pytest.raises(StoreError) as caught:
            open_store("postgresql://me:secret@127.0.0.1:1/db?connect_timeout=2")
        assert "secret" not in "".join(traceback.format_exception(caught.value)).replace("me:secret@127", "")


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "complaint"),
        [
            ("studies.db", "invalid database URL 'studies.db'"),
            ("mysql://me:secret@host/db", "unsupported database URL 'mysql://me:***@host/db'"),
            ("postgres://me:secret@host/db", "unsupported database URL 'postgres://me:***@host/db'"),
            ("sqlite+aiosqlite:///a.db", "unsupported database URL 'sqlite+aiosqlite:///a.db'"),
        ],
    )
    def test_other_urls_are_refused(self, url: str, complaint: str) -> None:
        with pytest.raises(StoreError) as caught:
            open_store(url)
        assert one_line(caught) == f"{complaint}; use sqlite:///PATH or postgresql://USER@HOST/NAME"

    @pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
    def test_a_database_in_memory_is_refused(self, url: str) -> None:
        with pytest.raises(StoreError, match="would be lost at exit; use sqlite:///PATH"):
            open_store(url)

    @pytest.mark.parametrize("url", ["sqlite:///a.db?mode=ro", "sqlite://a.db", "sqlite://host/a.db"])
    def test_options_are_not_ignored(self, url: str) -> None:
        with pytest.raises(StoreError, match="sqlite:///PATH"):
            open_store(url)

    def test_a_server_that_does_not_answer_is_one_line_without_password(self) -> None:
        with pytest.raises(StoreError) as caught:
            open_store("postgresql://me:secret@127.0.0.1:1/db?connect_timeout=2")
        text = one_line(caught)
        assert text.startswith("postgresql://me:***@127.0.0.1:1/db")
        assert text.endswith("check that the server is running and that the URL is correct")
        assert "secret" not in text

    def test_a_missing_driver_names_the_extra(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in [name for name in sys.modules if name.partition(".")[0] == "psycopg"]:
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(MissingExtraError, match=r"pip install 'sparsesearch\[postgres\]'"):
            open_store("postgresql://me@localhost/db")


class TestFilesystems:
    MOUNTS = (
        "/dev/sda1 / ext4 rw 0 0\n"
        "server:/home /home nfs4 rw 0 0\n"
        "tmpfs /home/me/local tmpfs rw 0 0\n"
        "//server/share /mnt/my\\040share cifs rw 0 0\n"
        "me@host: /mnt/ssh fuse.sshfs rw 0 0\n"
        "overlay /over overlay rw 0 0\n"
        "first /twice nfs rw 0 0\n"
        "second /twice xfs rw 0 0\n"
        "broken\n"
    )

    @pytest.fixture(autouse=True)
    def mounts(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        path = tmp_path / "mounts"
        path.write_text(self.MOUNTS)
        monkeypatch.setattr(filesystem, "_MOUNTS", path)
        return path

    @pytest.mark.parametrize(
        ("path", "kind"),
        [
            ("/data/studies.db", None),
            ("/home/me/studies.db", "nfs4"),
            ("/homework/studies.db", None),
            ("/home/me/local/deep/studies.db", None),
            ("/mnt/my share/studies.db", "cifs"),
            ("/mnt/ssh/studies.db", "fuse.sshfs"),
            ("/over/studies.db", None),
            ("/twice/studies.db", None),
        ],
    )
    def test_the_nearest_mount_decides(self, path: str, kind: str | None) -> None:
        assert filesystem.network_filesystem(Path(path)) == kind

    def test_a_database_on_a_network_is_refused_before_anything_is_made(self, tmp_path: Path, mounts: Path) -> None:
        remote = tmp_path / "remote"
        remote.mkdir()
        mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {remote} nfs rw 0 0\n")
        with pytest.raises(StoreError) as caught:
            open_store(f"sqlite:///{remote}/new/studies.db")
        text = one_line(caught)
        assert text.startswith(f"{remote}/new/studies.db is on a network filesystem (nfs), where SQLite can lose data;")
        assert "SPARSESEARCH_DATABASE_URL" in text
        assert list(remote.iterdir()) == []

    def test_links_are_followed(self, tmp_path: Path, mounts: Path) -> None:
        (tmp_path / "remote").mkdir()
        (tmp_path / "link").symlink_to(tmp_path / "remote")
        mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\nserver:/x {tmp_path}/remote nfs rw 0 0\n")
        assert filesystem.network_filesystem(tmp_path / "link" / "studies.db") == "nfs"

    def test_systems_without_the_list_are_not_judged(self, mounts: Path) -> None:
        mounts.unlink()
        assert filesystem.network_filesystem(Path("/home/me/studies.db")) is None


def test_opening_a_database_again_keeps_the_locks_of_this_process(tmp_path: Path) -> None:
    """POSIX drops all locks of a process on a file when it closes any descriptor of it."""
    url = f"sqlite:///{tmp_path}/studies.db"
    first = Database(url)
    with first.migrating() as connection:
        connection.exec_driver_sql("CREATE TABLE numbers (number INTEGER)")

    def locks() -> int:
        inode = (tmp_path / "studies.db").stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
        return sum(f":{inode} " in line and f" {os.getpid()} " in line for line in lines)

    with first.reading() as connection:
        connection.exec_driver_sql("SELECT * FROM numbers").all()
        before = locks()
        second = Database(url)
        with second.reading() as other:
            other.exec_driver_sql("SELECT * FROM numbers").all()
        assert before > 0
        assert locks() >= before
    second.close()
    first.close()

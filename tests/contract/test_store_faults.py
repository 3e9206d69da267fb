"""Databases that are away for a while: nothing is lost, nothing is stored twice, and one line says so."""

from __future__ import annotations

import re
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from postgres_server import PostgresServer, postgres_programs
from queued import new
from sqlalchemy import create_engine, text

from sparsesearch.errors import StaleAttemptError, StoreError, StoreUnavailableError, StudyNotFoundError
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.events import Checkpointed, Ended, Measured
from sparsesearch.study.protocols import StudyWriter
from sparsesearch.study.spec import Budget, StudySpec
from sparsesearch.study.state import StopRequest, StudyState
from sparsesearch.study.trial import CheckpointRef, Fidelity, Measurement, TrialState

SPEC = StudySpec(name="digits", backbone="deit_pico", budget=Budget(high=0.65))


def measured(step: int, *, trial: int = 0, attempt: int = 1) -> Measured:
    measurement = Measurement(
        step=step,
        attempt=attempt,
        fidelity=Fidelity.FINETUNE,
        metrics={"val_top1": step / 7, "val_loss": float("nan")},
        seconds=0.1,
        seed=1,
    )
    return Measured(trial=trial, attempt=attempt, measurement=measurement)


class Writing(threading.Thread):
    """Records epoch after epoch until it is told to stop."""

    def __init__(self, writer: StudyWriter) -> None:
        super().__init__()
        self._writer = writer
        self.steps = 0
        self.error: BaseException | None = None
        self.stop = threading.Event()
        writer.add_trial(new(0))
        writer.claim(0)
        self.start()

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                self._writer.record(measured(self.steps + 1))
                self.steps += 1
        except BaseException as error:
            self.error = error

    def wait_for(self, steps: int) -> None:
        until = time.monotonic() + 60
        while self.steps < steps and self.error is None and time.monotonic() < until:
            time.sleep(0.01)
        assert self.error is None
        assert self.steps >= steps

    def end(self, store: SqlStore) -> None:
        self.stop.set()
        self.join()
        assert self.error is None
        stored = [item.step for item in store.trials("digits")[0].measurements]
        assert stored == list(range(1, self.steps + 1))


def wait_for_a_line(lines: list[str]) -> None:
    until = time.monotonic() + 60
    while not lines and time.monotonic() < until:
        time.sleep(0.01)
    assert lines


def check_lines(lines: list[str]) -> None:
    assert len(lines) == 2
    assert re.fullmatch(r"waiting for the database, at most 60 s: .*", lines[0])
    assert re.fullmatch(r"the database is back after \d+ s", lines[1])


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    """A server that a test may stop."""
    programs = postgres_programs()
    assert programs is not None
    server = PostgresServer(programs)
    server.start()
    try:
        yield server
    finally:
        server.stop()
        server.remove()


class TestPostgres:
    def test_a_server_that_is_started_again_is_waited_for(self, server: PostgresServer) -> None:
        lines: list[str] = []
        store = open_store(server.url, patience_s=60, on_wait=lines.append)
        writing = Writing(store.create_study(SPEC))
        writing.wait_for(50)
        for mode in ("fast", "immediate"):
            server.stop(mode)
            wait_for_a_line(lines)
            server.start()
            writing.wait_for(writing.steps + 50)
            check_lines(lines)
            lines.clear()
        writing.end(store)
        store.close()

    def test_without_patience_it_is_an_error_at_once(self, server: PostgresServer) -> None:
        store = open_store(server.url)
        writer = store.create_study(SPEC)
        server.stop()
        for write in (lambda: writer.add_trial(new(0)), lambda: store.trials("digits")):
            started = time.monotonic()
            with pytest.raises(StoreUnavailableError, match="check that the server is running") as caught:
                write()
            assert "\n" not in str(caught.value)
            assert time.monotonic() - started < 2
        server.start()
        assert writer.add_trial(new(0)) == store.trials("digits")[0]
        store.close()

    def test_a_connection_that_died_in_the_pool_is_not_noticed(self, server: PostgresServer) -> None:
        lines: list[str] = []
        store = open_store(server.url, on_wait=lines.append)
        writer = store.create_study(SPEC)
        server.stop("fast")
        server.start()
        assert writer.add_trial(new(0)) == store.trials("digits")[0]
        assert lines == []
        store.close()

    def test_connections_that_are_terminated_again_and_again(self, server: PostgresServer) -> None:
        store = open_store(server.url, patience_s=60)
        writing = Writing(store.create_study(SPEC))
        engine = create_engine(server.url.replace("postgresql://", "postgresql+psycopg://"))
        terminate = text(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND usename IS NOT NULL"
        )
        ended = 0
        for _ in range(40):
            writing.wait_for(writing.steps + 3)
            with engine.begin() as connection:
                ended += len(connection.execute(terminate).all())
        assert ended >= 20
        engine.dispose()
        writing.end(store)
        store.close()

    def test_a_wrong_password_is_not_waited_for(self, server: PostgresServer) -> None:
        with pytest.raises(StoreError, match='role "nobody" does not exist') as caught:
            open_store(server.url.replace("postgres@", "nobody@"), patience_s=60)
        assert not isinstance(caught.value, StoreUnavailableError)


class Proxy(threading.Thread):
    """Between a client and the server. While armed, it passes the next COMMIT on and then cuts the connection."""

    def __init__(self, server: PostgresServer) -> None:
        super().__init__(daemon=True)
        self._target = f"{server.url.partition('host=')[2]}/.s.PGSQL.5432"
        self.folder = tempfile.TemporaryDirectory(prefix="sparsesearch-proxy-", dir="/tmp")
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(f"{self.folder.name}/.s.PGSQL.5432")
        self._listening.listen()
        self.url = f"postgresql://postgres@/postgres?host={self.folder.name}"
        self.armed = False
        self.cuts = 0
        self.start()

    def run(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            threading.Thread(target=self._pass_on, args=(client,), daemon=True).start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.socket(socket.AF_UNIX) as server:
            server.connect(self._target)
            back = threading.Thread(target=self._pass_back, args=(server, client), daemon=True)
            back.start()
            while data := client.recv(65536):
                cut = self.armed and b"COMMIT" in data
                if cut:
                    self.armed = False
                    self.cuts += 1
                    client.shutdown(socket.SHUT_WR)  # the answer is not heard
                server.sendall(data)
                if cut:
                    time.sleep(0.1)
                    return
            server.shutdown(socket.SHUT_RDWR)

    @staticmethod
    def _pass_back(server: socket.socket, client: socket.socket) -> None:
        try:
            while data := server.recv(65536):
                client.sendall(data)
        except OSError:
            return

    def close(self) -> None:
        self._listening.close()
        self.folder.cleanup()


@pytest.fixture
def proxy(server: PostgresServer) -> Iterator[Proxy]:
    proxy = Proxy(server)
    yield proxy
    proxy.close()


def test_a_commit_whose_answer_is_lost_is_not_repeated(server: PostgresServer, proxy: Proxy) -> None:
    through, direct = open_store(proxy.url), open_store(server.url)
    cuts = 0

    def unheard(write: Callable[[], object]) -> None:
        nonlocal cuts
        proxy.armed = True
        write()
        cuts += 1
        assert proxy.cuts == cuts, "the connection was not cut"

    writers: list[StudyWriter] = []
    unheard(lambda: writers.append(through.create_study(SPEC)))
    unheard(lambda: writers[0].add_trials([new(0), new(1)]))
    unheard(lambda: writers[0].claim(0))
    unheard(lambda: writers[0].claim(0, retry=True, reason="killed"))
    assert (direct.trials("digits")[0].attempt, direct.trials("digits")[0].reason) == (2, "killed")
    unheard(lambda: writers[0].claim(0, retry=True, reason="killed"))
    assert direct.trials("digits")[0].attempt == 3
    unheard(lambda: writers[0].record(measured(1, attempt=3)))
    checkpoint = CheckpointRef(uri="file:///a", sha256="0" * 64, step=1)
    unheard(lambda: writers[0].record(Checkpointed(trial=0, attempt=3, checkpoint=checkpoint)))
    unheard(
        lambda: writers[0].record_all(
            [measured(2, attempt=3), Ended(trial=0, attempt=3, state=TrialState.COMPLETE, reason="done")]
        )
    )
    trial = direct.trials("digits")[0]
    assert (trial.state, trial.attempt, trial.epochs_done, trial.checkpoint) == (TrialState.COMPLETE, 3, 2, checkpoint)
    assert writers[0].trials() == direct.trials("digits")
    unheard(lambda: writers[0].set_state(StudyState.RUNNING))
    unheard(lambda: through.request("digits", StopRequest.PAUSE))
    assert writers[0].requested() is StopRequest.PAUSE
    unheard(lambda: writers[0].renew())
    unheard(lambda: writers[0].close())
    assert direct.condition("digits").state is StudyState.PAUSED
    unheard(lambda: writers.append(through.open_study("digits", resume=True)))
    assert direct.condition("digits").is_leased
    writers[1].claim(1)
    with pytest.raises(StaleAttemptError):
        writers[0].claim(1)
    writers[1].close()
    unheard(lambda: through.delete_study("digits"))
    with pytest.raises(StudyNotFoundError):
        direct.spec("digits")
    with pytest.raises(StudyNotFoundError):
        through.delete_study("digits")
    through.close()
    direct.close()


LOCKING = """
import sqlite3, sys, time
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.readline()
connection.execute("ROLLBACK")
"""

FILLING = """
import resource, sys
from pathlib import Path
from sparsesearch.errors import StoreUnavailableError
from sparsesearch.store.sql import open_store
from sparsesearch.study.events import EVENT
url, template = sys.argv[1:]
store = open_store(url)
writer = store.open_study("digits")
writer.claim(0)
wal = Path(url.removeprefix("sqlite:///") + "-wal")
unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
def limit(num_bytes):
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, unlimited))
def record(step):
    writer.record(EVENT.validate_json(template.replace('"step":1', f'"step":{step}')))
record(1)
limit(wal.stat().st_size + 100_000)
step = 1
try:
    while True:
        record(step + 1)
        step += 1
except StoreUnavailableError as error:
    print(step, error, flush=True)
lines = []
def told(line):
    lines.append(line)
    limit(unlimited)
store.set_patience(60, on_wait=told)
for step in range(step + 1, step + 51):
    record(step)
print(step, *lines, sep="|", flush=True)
writer.close()
"""


class TestSqlite:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        return tmp_path / "studies.db"

    def test_a_lock_that_outlasts_the_busy_time_is_waited_for(
        self, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sparsesearch.store.database._SOON_S", 0.3)
        lines: list[str] = []
        store = open_store(f"sqlite:///{path}", patience_s=60, on_wait=lines.append)
        writing = Writing(store.create_study(SPEC))
        writing.wait_for(50)
        command = [sys.executable, "-c", LOCKING, str(path)]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as rival:
            assert rival.stdout is not None
            assert rival.stdout.readline() == "locked\n"
            steps = writing.steps
            wait_for_a_line(lines)
            assert writing.steps - steps <= 1
            assert "was locked by another process for 0.3 s" in lines[0]
            rival.communicate("\n")
        writing.wait_for(steps + 50)
        check_lines(lines)
        writing.end(store)
        store.close()

    def test_giving_up_ends_the_waiting(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sparsesearch.store.database._SOON_S", 0.1)
        store = open_store(f"sqlite:///{path}")
        writer = store.create_study(SPEC)
        given_up = threading.Event()
        store.set_patience(600, give_up=given_up.is_set)
        rival = sqlite3.connect(path, isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        threading.Timer(1.0, given_up.set).start()
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError, match="was locked by another process"):
            writer.add_trial(new(0))
        assert 0.9 < time.monotonic() - started < 5
        rival.close()
        assert store.trials("digits") == []
        writer.add_trial(new(0))
        store.close()

    def test_patience_has_an_end(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("sparsesearch.store.database._SOON_S", 0.1)
        lines: list[str] = []
        store = open_store(f"sqlite:///{path}", patience_s=2, on_wait=lines.append)
        writer = store.create_study(SPEC)
        rival = sqlite3.connect(path, isolation_level=None)
        rival.execute("BEGIN IMMEDIATE")
        started = time.monotonic()
        with pytest.raises(StoreUnavailableError):
            writer.add_trial(new(0))
        assert 1.9 < time.monotonic() - started < 5
        assert len(lines) == 1
        rival.close()
        store.close()

    def test_a_full_disk_is_waited_for(self, path: Path) -> None:
        """The kernel refuses to let the process's files grow, as a full disk would."""
        url = f"sqlite:///{path}"
        store = open_store(url)
        writer = store.create_study(SPEC)
        writer.add_trial(new(0))
        writer.close()
        command = [
            sys.executable,
            "-c",
            FILLING,
            url,
            measured(1).model_dump_json(exclude={"hits"}).replace("null", "0.5"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120)
        assert done.stderr == ""
        full, freed = done.stdout.splitlines()
        step, _, message = full.partition(" ")
        assert "check that the file and its folder are writable and the disk is not full" in message
        last, *lines = freed.split("|")
        check_lines(lines)
        assert int(last) == int(step) + 50
        stored = [item.step for item in store.trials("digits")[0].measurements]
        assert stored == list(range(1, int(last) + 1))
        store.close()
        with sqlite3.connect(path) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()

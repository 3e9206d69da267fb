"""Clocks that are wrong or jump: leases are decided by the server, or by a clock of the machine that nobody sets."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from sparsesearch.errors import StudyBusyError
from sparsesearch.store.sql import open_store
from sparsesearch.study.spec import Budget, StudySpec

# A controller whose clock can be set, led by lines on its standard input; it answers each with one line.
CONTROLLER = """
import sys, time
real, ahead = time.time, 0.0
time.time = lambda: real() + ahead
from sparsesearch.errors import SparseSearchError
from sparsesearch.store.sql import open_store
store = open_store(sys.argv[1], lease_s=float(sys.argv[2]))
print("ready", flush=True)
for line in sys.stdin:
    verb, _, value = line.strip().partition(" ")
    try:
        if verb == "clock":
            ahead = float(value)
        elif verb == "open":
            writer = store.open_study("digits")
        elif verb == "renew":
            writer.renew()
        elif verb == "close":
            writer.close()
        answer = "done"
        if verb == "is_leased":
            answer = str(store.condition("digits").is_leased)
        elif verb == "opened":
            answer = str(store.open_study("digits").active_s)
        print(answer, flush=True)
    except SparseSearchError as error:
        print(type(error).__name__, error, flush=True)
"""
FIVE_MINUTES, AN_HOUR = 300, 3600


class Controller:
    def __init__(self, url: str, lease_s: float) -> None:
        command = [sys.executable, "-c", CONTROLLER, url, str(lease_s)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()


@contextmanager
def controllers(url: str, *, num: int = 2, lease_s: float = 60.0) -> Iterator[list[Controller]]:
    started = [Controller(url, lease_s) for _ in range(num)]
    try:
        assert [controller.answer() for controller in started] == ["ready"] * num
        yield started
    finally:
        for controller in started:
            controller.process.kill()
            controller.process.communicate()


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """URL of a database with a study that nobody has opened."""
    sqlite = f"sqlite:///{tmp_path}/studies.db"
    url = sqlite if request.param == "sqlite" else str(request.getfixturevalue("postgres_url"))
    store = open_store(url)
    store.create_study(StudySpec(name="digits", backbone="deit_pico", budget=Budget(high=0.65))).close()
    store.close()
    return url


@pytest.mark.parametrize("ahead", [FIVE_MINUTES, AN_HOUR])
def test_a_clock_that_is_ahead_takes_nobodys_study(url: str, ahead: float) -> None:
    with controllers(url) as (owner, rival):
        assert owner.ask("open") == "done"
        assert rival.ask(f"clock {ahead}") == "done"
        assert rival.ask("is_leased") == "True"
        assert rival.ask("open").startswith("StudyBusyError")
        assert owner.ask("renew") == "done"
        assert rival.ask("open").startswith("StudyBusyError")


@pytest.mark.parametrize("jump", [FIVE_MINUTES, AN_HOUR, -FIVE_MINUTES, -AN_HOUR])
def test_a_clock_that_jumps_ends_no_lease(url: str, jump: float) -> None:
    with controllers(url) as pair:
        owner, rival = pair
        assert owner.ask("open") == "done"
        for controller in pair:
            assert controller.ask(f"clock {jump}") == "done"
        for _ in range(2):
            assert rival.ask("is_leased") == "True"
            assert rival.ask("open").startswith("StudyBusyError")
            assert owner.ask("renew") == "done"


@pytest.mark.parametrize("jump", [AN_HOUR, -AN_HOUR])
def test_a_clock_that_jumps_keeps_no_lost_study(url: str, jump: float) -> None:
    """The owner's clock was set after or before its last sign of life; it hangs, and its lease is over in time."""
    with controllers(url, lease_s=1.0) as (owner, rival):
        assert owner.ask("open") == "done"
        assert owner.ask(f"clock {jump}") == "done"
        assert owner.ask("renew") == "done"
        owner.process.send_signal(signal.SIGSTOP)
        assert rival.ask("open").startswith("StudyBusyError")
        time.sleep(1.2)
        assert rival.ask("open") == "done"
        owner.process.send_signal(signal.SIGCONT)
        assert owner.ask("renew").startswith("StaleAttemptError")


@pytest.mark.parametrize("jump", [AN_HOUR, -AN_HOUR])
def test_a_clock_that_jumps_takes_no_time_of_a_budget(url: str, jump: float) -> None:
    with controllers(url, num=1) as (owner,):
        assert owner.ask("open") == "done"
        assert owner.ask(f"clock {jump}") == "done"
        time.sleep(0.3)
        assert owner.ask("renew") == "done"
        assert owner.ask("close") == "done"
        assert 0.3 <= float(owner.ask("opened")) < 60


def test_the_time_left_is_said_by_the_clock_that_decides(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with controllers(url, num=1) as (owner,):
        assert owner.ask("open") == "done"
        real = time.time
        monkeypatch.setattr(time, "time", lambda: real() + AN_HOUR)
        store = open_store(url)
        with pytest.raises(StudyBusyError, match=r"its lease expires in (5\d|60) s"):
            store.open_study("digits")
        store.close()


def test_timestamps_are_those_of_the_server(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + AN_HOUR)
    store = open_store(postgres_url)
    store.create_study(StudySpec(name="digits", backbone="deit_pico", budget=Budget(high=0.65)))
    assert abs(store.times("digits").created_at - real()) < 60
    store.close()

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from sparsesearch.errors import StudyBusyError
from sparsesearch.store import lease
from sparsesearch.store.lease import Lease, OwnerProcess
from sparsesearch.store.moment import Moment


@pytest.fixture
def child() -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def process_of(process: subprocess.Popen[str]) -> OwnerProcess:
    return replace(OwnerProcess.current(), pid=process.pid, process_start=lease._process_start(process.pid))


def test_this_process_is_not_gone() -> None:
    assert not OwnerProcess.current().is_gone()


def test_a_killed_process_is_gone_before_and_after_it_is_reaped(child: subprocess.Popen[str]) -> None:
    owner = process_of(child)
    assert not owner.is_gone()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert owner.is_gone()
    child.wait()
    assert owner.is_gone()


def test_a_process_id_that_is_used_again_does_not_deceive(child: subprocess.Popen[str]) -> None:
    owner = process_of(child)
    assert owner.process_start is not None
    assert replace(owner, process_start=owner.process_start - 1).is_gone()


def test_a_process_elsewhere_is_never_known_to_be_gone(child: subprocess.Popen[str]) -> None:
    owner = process_of(child)
    child.kill()
    child.wait()
    assert not replace(owner, machine="another").is_gone()


def test_without_proc_a_process_id_alone_decides(
    child: subprocess.Popen[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "_PROC", tmp_path)
    owner = process_of(child)
    assert owner.process_start is None
    assert not owner.is_gone()
    child.kill()
    child.wait()
    assert owner.is_gone()


def test_a_command_name_with_brackets_and_spaces_is_read_past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "_PROC", tmp_path)
    (tmp_path / "7").mkdir()
    fields = " ".join(["R", *(str(number) for number in range(4, 53))])
    (tmp_path / "7" / "stat").write_text(f"7 (a ) b) {fields}\n")
    assert lease._process_start(7) == 22


def moment(seconds: float, *, steady: float | None = None, boot: str | None = "this") -> Moment:
    return Moment(time=seconds, steady=seconds if steady is None else steady, boot=boot)


def leased(now: Moment) -> Lease:
    return Lease.new(owner="token", generation=1, now=now, lease_s=60.0)


def test_who_is_in_the_way_is_named() -> None:
    held = leased(moment(40.0))
    with pytest.raises(StudyBusyError) as caught:
        held.check_free(study="digits", now=moment(58.0))
    text = str(caught.value)
    assert text.startswith(f"study 'digits' is being run by process {os.getpid()} on {held.process.host}; wait")
    assert "42 s" in text
    held.check_free(study="digits", now=moment(100.0))
    replace(held, owner=None).check_free(study="digits", now=moment(0.0))


def test_the_steady_clock_decides_where_it_is_the_same() -> None:
    held = leased(moment(1000.0, steady=40.0))
    assert held.is_leased(now=moment(9999.0, steady=99.0))
    assert not held.is_leased(now=moment(0.0, steady=100.0))
    for other in ("another", None):
        assert not held.is_leased(now=moment(1060.0, steady=0.0, boot=other))
        assert held.is_leased(now=moment(1059.0, steady=9999.0, boot=other))


def test_leases_without_a_steady_clock_end_by_the_time_of_day() -> None:
    held = replace(leased(moment(1000.0)), steady_until=None, boot=None)
    assert held.is_leased(now=moment(1059.0, boot=None))
    assert not held.is_leased(now=moment(1060.0))


def test_processes_of_a_machine_have_one_steady_clock() -> None:
    code = "from sparsesearch.store.moment import Moment; now = Moment.of_machine(); print(now.boot, now.steady)"
    before = Moment.of_machine()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    after = Moment.of_machine()
    boot, steady = done.stdout.split()
    assert boot == before.boot
    assert before.steady < float(steady) < after.steady

"""`doctor` as a person runs it: everything in order, and then not."""

from __future__ import annotations

import json
import socket
import time
from pathlib import Path

import pytest
from answers import Command
from postgres_server import postgres
from small_disk import small_disk

pytestmark = pytest.mark.slow

NAMES = [
    "installation",
    "versions",
    "device",
    "database",
    "ray",
    "mlflow",
    "home",
    "storage",
    "database folder",
    "temporary folder",
    "shared memory",
    "network filesystem",
    "clock",
    "permissions",
    "leftovers",
    "loader",
    "open files",
]


def test_everything_in_order(program: Command, home: Path) -> None:
    answer = program("doctor", "--device", "cpu")
    assert answer.code == 0, answer.out
    assert answer.out.rstrip().endswith(f"all {len(NAMES)} checks passed")
    assert "FAILED" not in answer.out
    assert not home.exists(), "nothing is created"


def test_a_study_database_on_a_server(program: Command, home: Path) -> None:
    with postgres(password="hid/den") as url:
        assert program("db", "upgrade", "--database", url).code == 0
        answer = program("doctor", "--device", "cpu", "--json", "--database", url)
    assert answer.code == 0, answer.out
    found = {each["check"]: each for each in answer.document}
    assert list(found) == NAMES
    assert all(set(each) == {"check", "ok", "detail", "fix"} for each in found.values())
    assert "can be written, its clock is" in found["database"]["detail"]
    assert "hid" not in answer.out + answer.err


def test_broken_things_are_found_and_the_others_still_checked(program: Command, home: Path, tmp_path: Path) -> None:
    """A server that hangs, a full disk, no MLflow and no cluster, all at once."""
    with small_disk(tmp_path / "disk", kilobytes=64) as disk, socket.socket() as silent:
        (disk / "filling").write_bytes(bytes(64 * 1024))
        silent.bind(("127.0.0.1", 0))
        silent.listen(16)
        database = f"postgresql://me:hidden@127.0.0.1:{silent.getsockname()[1]}/x"
        arguments = ("doctor", "--database", database, "--storage", disk, "--device", "cpu", "--timeout", "25")
        wrong = {"MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
        started = time.monotonic()
        answer = program(*arguments, "--json", "--ray-address", "127.0.0.1:9", **wrong)
        assert time.monotonic() - started < 120
        assert answer.code == 1
        failed = {each["check"]: each for each in answer.document if not each["ok"]}
        assert set(failed) == {"database", "ray", "mlflow", "storage"}
        assert all(each["fix"] for each in failed.values())
        assert failed["storage"]["detail"].startswith(f"{disk} is full")
        assert [each["check"] for each in answer.document] == NAMES
        table = program(*arguments, "--ray-address", "127.0.0.1:9", **wrong)
    assert table.code == 1
    assert table.out.count("To fix: ") == 4
    assert table.out.rstrip().endswith(f"4 of {len(NAMES)} checks failed")
    assert "Traceback" not in table.err
    assert "hidden" not in answer.out + answer.err + table.out + table.err
    json.dumps(answer.document)

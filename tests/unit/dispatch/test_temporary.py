"""A long TMPDIR does not end in a socket whose name is too long."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sparsesearch.dispatch.temporary import LONGEST, shorten_tmpdir

LISTEN = """
import tempfile
from multiprocessing.connection import Listener
Listener(family="AF_UNIX").close()
print(tempfile.gettempdir())
"""
SHORTEN = """
from pathlib import Path
from sparsesearch.dispatch.temporary import shorten_tmpdir
shorten_tmpdir(Path("ROOT"))
"""


@pytest.fixture
def long(tmp_path: Path) -> Path:
    folder = tmp_path / ("x" * 60) / ("y" * 60)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a short name, as /tmp is."""
    monkeypatch.setattr(tempfile, "tempdir", None)
    return Path(tempfile.mkdtemp(prefix="s-", dir="/tmp"))


def listening(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code + LISTEN]
    return subprocess.run(command, env={**os.environ, "TMPDIR": str(folder)}, capture_output=True, text=True)


def test_sockets_can_be_made(long: Path, short: Path) -> None:
    assert "AF_UNIX path too long" in listening(long, "").stderr
    code = SHORTEN.replace("ROOT", str(short))
    done = listening(long, code)
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.parent == short
    assert folder.resolve() == long.resolve()
    assert listening(long, code).stdout == done.stdout


def test_a_short_name_is_kept(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(short))
    assert len(str(short)) <= LONGEST
    shorten_tmpdir(short)
    assert os.environ["TMPDIR"] == str(short)
    assert list(short.iterdir()) == []


def test_a_link_of_another_folder_is_not_followed(long: Path, short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(long))
    shorten_tmpdir(short)
    (link,) = short.iterdir()
    link.unlink()
    link.symlink_to("/")
    monkeypatch.setenv("TMPDIR", str(long))
    monkeypatch.setattr(tempfile, "tempdir", None)
    shorten_tmpdir(short)
    assert os.environ["TMPDIR"] == str(long)


def test_workers_of_ray_use_this_interpreter() -> None:
    """Under `uv run`, Ray would otherwise copy the working directory and install everything again."""
    code = "import sparsesearch.dispatch.cluster; from ray._private import ray_constants as ray"
    code += "; print(ray.RAY_ENABLE_UV_RUN_RUNTIME_ENV)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "False", done.stderr

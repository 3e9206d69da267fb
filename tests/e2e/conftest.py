"""The command line as a person uses it: in a folder of their own, without a hub."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import datasets
import huggingface_hub.constants
import pytest
from answers import PROGRAM, Answer, Command

from sparsesearch.cli import main


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in, with the program's own data below it."""
    for name in ("SPARSESEARCH_DATABASE_URL", "SPARSESEARCH_DATA", "SPARSESEARCH_DEBUG", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SPARSESEARCH_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # for programs of their own; this process has read it already
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return tmp_path / "home"


@pytest.fixture
def command(home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the program inside this process."""

    def run(*arguments: object) -> Answer:
        monkeypatch.setattr(sys, "argv", ["sparsesearch", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Answer(ended.value.code, captured.out, captured.err)

    return run


@pytest.fixture
def program(home: Path) -> Command:
    """Run the installed program as a process of its own."""

    def run(*arguments: object, timeout: float = 300, **environment: str) -> Answer:
        done = subprocess.run(
            [str(PROGRAM), *map(str, arguments)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    return run

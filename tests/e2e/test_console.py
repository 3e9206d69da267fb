"""A study at a terminal: the view while it runs, what other terminals see of it, and a clean end."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from answers import PROGRAM, Command

pytestmark = pytest.mark.slow

DOCUMENT = {
    "name": "tiny",
    "dispatcher": "inline",
    "backbone": "deit_pico",
    "budget": {"unit": "fraction", "high": 0.35},
    "precision": "float32",
    "device": "cpu",
    "data": {"num_val_images": 240},
    "fidelity": {
        "evaluations": 6,
        "finalists": 2,
        "dense": {"epochs": 8, "images_per_epoch": 512},
        "supernet_training": {"epochs": 2, "images_per_epoch": 256},
        "finetune": {"epochs": 1, "images_per_epoch": 128},
    },
}
PATIENCE_S = 240.0
HIDE, SHOW = b"\x1b[?25l", b"\x1b[?25h"
CODES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]|\r")


class Terminal:
    """A program at a terminal of 80 by 30."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process = process
        self.seen = b""
        self._screen = screen
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, text: str) -> str:
        """All it has drawn until then, without control codes."""
        deadline = time.monotonic() + PATIENCE_S
        while text not in self.text:
            assert self._reader.is_alive(), f"it ended without {text!r}: {self.text[-3000:]}"
            assert time.monotonic() < deadline, self.text[-3000:]
            time.sleep(0.1)
        return self.text

    def end(self) -> int:
        """Wait for its end; its exit code."""
        code = self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return code

    @property
    def text(self) -> str:
        """All it has drawn, without control codes."""
        return CODES.sub(b"", self.seen).decode(errors="replace")

    def _read(self) -> None:
        while True:
            try:
                read = os.read(self._screen, 65536)
            except OSError:  # Linux's way to say that nobody has the terminal open any more
                return
            if not read:
                return
            self.seen += read

    def press_ctrl_c(self) -> None:
        os.write(self._screen, b"\x03")

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._screen, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))


@contextmanager
def terminal(*arguments: str) -> Iterator[Terminal]:
    screen, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}

    def take_terminal() -> None:
        os.setsid()
        fcntl.ioctl(inside, termios.TIOCSCTTY, 0)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    process = subprocess.Popen(
        [str(PROGRAM), *arguments],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env={**environment, "TERM": "xterm-256color"},
        preexec_fn=take_terminal,
    )
    os.close(inside)
    try:
        yield Terminal(process, screen)
    finally:
        process.kill()
        process.wait()
        os.close(screen)


@pytest.fixture(autouse=True)
def document(home: Path) -> None:
    Path("tiny.yaml").write_text(yaml.safe_dump(DOCUMENT))


def state_of(command: Command) -> dict[str, Any]:
    answer = command("status", "tiny", "--json")
    assert answer.code == 0, answer.err
    found: dict[str, Any] = answer.document
    return found


def test_a_study_is_watched_interrupted_and_resumed(command: Command) -> None:
    assert command("studies").code == 0  # everything is loaded here now, so that looking is quick
    with terminal("run", "tiny.yaml", "--no-mlflow") as screen:
        text = screen.wait_for("dense training")
        assert "plan: dense 8 x 512 images" in text
        for phase in ("dense", "supernet", "search", "fine-tuning"):
            assert phase in text
        assert "dispatcher inline" in text
        found = state_of(command)
        assert found["state"] == "RUNNING"
        assert [trial["label"] for trial in found["running"]] == ["dense"]
        shown = command("status", "tiny").out
        assert "dense training" in shown
        assert "status tiny --watch" in shown
        screen.resize(60, 20)
        screen.wait_for("dense training, epoch 2 of 8")
        screen.press_ctrl_c()
        assert screen.end() == 130
        assert screen.seen.count(HIDE) == screen.seen.count(SHOW) == 1
        assert screen.text.rstrip().endswith("sparsesearch: interrupted; nothing recorded is lost")
        assert "stopping as soon as the work so far is saved" in screen.text
        assert "resume tiny" in screen.text

    found = state_of(command)
    assert found["state"] == "PAUSED"
    assert found["running"] == []
    assert found["phases"][0]["epochs_done"] >= 1
    assert "resume tiny" in command("status", "tiny", "--watch").out, "there is nothing to wait for"

    with terminal("resume", "tiny", "--no-mlflow") as screen, terminal("status", "tiny", "--watch") as other:
        assert screen.end() == 0
        assert other.end() == 0
        assert screen.seen.count(HIDE) == screen.seen.count(SHOW) == 1
        assert screen.seen.rindex(SHOW) < screen.seen.rindex(b"Pareto front of tiny")
        assert "hypervolume" in screen.text
        assert "trial 0: dense, " in screen.text

    found = state_of(command)
    assert found["state"] == "FINISHED"
    assert all(phase["done"] == phase["total"] for phase in found["phases"])
    assert "export tiny -o best.yaml" in command("status", "tiny").out


def test_programs_read_events_and_quiet_is_quiet(program: Command, command: Command) -> None:
    told = program("run", "tiny.yaml", "--no-mlflow", "--json", SPARSESEARCH_PROGRESS="jsonl")
    assert told.code == 0, told.err
    assert told.err == ""
    events = [json.loads(line) for line in told.out.splitlines()]
    assert [event["event"] for event in events].count("plan") == 1
    assert [event["event"] for event in events].count("result") == 1
    trials = command("trials", "tiny", "--json").document
    ended = [event for event in events if event["event"] == "ended"]
    assert [event["id"] for event in ended] == [trial["id"] for trial in trials]
    for event, trial in zip(ended, trials, strict=True):
        assert event.items() >= trial.items()

    again = program("resume", "tiny", "--no-mlflow", "--quiet", "--json")
    assert (again.code, again.err) == (0, "")
    assert events[-1].items() >= again.document.items()
    silent = program("resume", "tiny", "--no-mlflow", "-q")
    assert (silent.code, silent.out, silent.err) == (0, "", "")

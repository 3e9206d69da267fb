"""A tiny study that trains for real, in processes that may be killed at any time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import yaml

NAME = "chaos"
DOCUMENT = {
    "name": NAME,
    "backbone": "deit_pico",
    "budget": {"unit": "fraction", "low": 0.25, "high": 0.45},
    "data": {"num_val_images": 120},
    "precision": "float32",
    "device": "cpu",
    "baselines": False,
    "fidelity": {
        "evaluations": 4,
        "finalists": 2,
        "dense": {"epochs": 4, "images_per_epoch": 240, "batch_size": 24},
        "supernet_training": {"epochs": 3, "images_per_epoch": 144, "batch_size": 24},
        "finetune": {"epochs": 2, "images_per_epoch": 96, "batch_size": 24},
    },
    "resources": {"max_concurrent": 2, "cpus_per_trial": 0.5},
}
LIMIT_S = 240.0


class StuckError(Exception):
    """A process of the study did not end or go on in time."""


@dataclass
class Place:
    """Where a study runs.

    Attributes:
        root: A folder of its own.
        database: URL; None for the SQLite file in its home.
        dispatcher: `inline` or `ray`.
        options: Further options of `run` and `resume`.
        check: Looks at the study when it is finished, while its disks and servers are there.
        codes: Exit codes of its processes so far.
    """

    root: Path
    check: Callable[[Place], None]
    dispatcher: str = "inline"
    database: str | None = None
    options: Sequence[str] = ()
    environment: dict[str, str] = field(default_factory=dict)
    codes: list[int] = field(default_factory=list)

    @property
    def home(self) -> Path:
        """Home of the program."""
        return self.root / "home"

    @property
    def storage(self) -> Path:
        """Root of the checkpoints."""
        return self.root / "storage"

    @property
    def url(self) -> str:
        """URL of the database."""
        return self.database or f"sqlite:///{self.root}/database/studies.db"

    def start(self, verb: str) -> subprocess.Popen[bytes]:
        """Start `run` or `resume`."""
        self.root.mkdir(exist_ok=True)
        (self.root / "study.yaml").write_text(yaml.safe_dump(DOCUMENT), encoding="utf-8")
        what = ["study.yaml", "--storage", str(self.storage)] if verb == "run" else [NAME]
        command = [sys.executable, "-m", "sparsesearch", verb, *what, "--dispatcher", self.dispatcher]
        command += ["--database", self.url, "--output", str(self.root / "results"), *self.options]
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "SPARSESEARCH_HOME": str(self.home),
            **self.environment,
        }
        if not any("mlflow" in option for option in self.options):
            command.append("--no-mlflow")
        with (self.root / "log.txt").open("ab") as log:
            return subprocess.Popen(command, cwd=self.root, env=environment, stdout=log, stderr=log)

    def finish(self, process: subprocess.Popen[bytes], *, limit_s: float = LIMIT_S) -> int:
        """Wait for a process; returns its exit code."""
        try:
            code = process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired as error:
            process.send_signal(signal.SIGKILL)
            process.wait()
            raise StuckError(f"it did not end within {limit_s:.0f} s") from error
        self.codes.append(code)
        return code

    def resume_to_the_end(self, *, tries: int = 5) -> None:
        """Resume the study until it is finished, and check it."""
        while self.codes[-1] != 0:
            if len(self.codes) > tries:
                raise StuckError(f"it did not finish: exit codes {self.codes}")
            self.finish(self.start("resume"))
        self.check(self)


def wait_until(process: subprocess.Popen[bytes], what: Callable[[], bool], *, limit_s: float = LIMIT_S) -> bool:
    """Wait for something in a run; False if the run ended before."""
    deadline = time.monotonic() + limit_s
    while not what():
        if process.poll() is not None:
            return False
        if time.monotonic() > deadline:
            raise StuckError(f"nothing went on for {limit_s:.0f} s")
        time.sleep(0.05)
    return True

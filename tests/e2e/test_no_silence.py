"""Long work in a pipe never goes quiet."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path

import pytest
import yaml
from answers import PROGRAM

pytestmark = pytest.mark.slow

TINY = {"epochs": 1, "images_per_epoch": 48, "batch_size": 24}
SLOW = {"epochs": 1, "images_per_epoch": 12000, "batch_size": 24}  # one epoch takes far longer than a heartbeat
LONGEST_GAP_S = 15.0


def gaps_of(*arguments: str) -> tuple[list[str], float]:
    """Run the program with its output in a pipe; its lines, and the longest time between two of them."""
    longest, last = 0.0, time.monotonic()
    lines: list[str] = []
    with subprocess.Popen(
        [str(PROGRAM), *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
            lines.append(line)
    assert process.returncode == 0, "".join(lines)
    return lines, max(longest, time.monotonic() - last)


def test_run_and_retrain_say_something_at_least_every_15_s(home: Path) -> None:
    document = {
        "name": "study",
        "backbone": "deit_pico",
        "budget": "40%",
        "data": {"num_val_images": 48},
        "precision": "float32",
        "device": "cpu",
        "dispatcher": "inline",
        "fidelity": {
            "evaluations": 3,
            "finalists": 1,
            "dense": {**SLOW, "epochs": 4, "images_per_epoch": 9600},
            "supernet_training": TINY,
            "finetune": TINY,
            "retrain": SLOW,
        },
    }
    Path("study.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    lines, gap = gaps_of("run", "study.yaml", "--no-mlflow")
    assert gap < LONGEST_GAP_S, "".join(lines)
    beats = [line for line in lines if re.match(r"\d\d:\d\d:\d\d  ", line)]
    assert any(
        re.search(r"trial 0: dense training, epoch \d of 4: step \d+ of \d+, [\d,]+ images/s", b) for b in beats
    ), "".join(lines)
    lines, gap = gaps_of("retrain", "study/best.yaml", "--no-mlflow")
    assert gap < LONGEST_GAP_S, "".join(lines)
    assert any("retraining: step" in line for line in lines), "".join(lines)

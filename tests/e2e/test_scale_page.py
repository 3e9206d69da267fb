"""The commands of docs/training-at-scale.md for SLURM and for several machines, with processes in place of GPUs."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from ray_nodes import two_nodes

from sparsesearch.store.sql import open_store

pytestmark = pytest.mark.slow

PAGE = Path(__file__).parents[2] / "docs" / "training-at-scale.md"
DOCUMENT = {
    "name": "study",
    "backbone": "deit_pico",
    "budget": {"unit": "fraction", "high": 0.35},
    "precision": "float32",
    "device": "cpu",
    "data": {"num_val_images": 120},
    "baselines": False,
    "fidelity": {
        "evaluations": 2,
        "finalists": 1,
        "dense": {"epochs": 4, "images_per_epoch": 720},
        "supernet_training": {"epochs": 1, "images_per_epoch": 240},
        "finetune": {"epochs": 1, "images_per_epoch": 120},
        "retrain": {"epochs": 1, "images_per_epoch": 240},
    },
}
STUB = """#!/bin/sh
echo "$@" >> "$HOME/scontrol.log"
"""
PATIENCE_S = 300.0


def place(folder: Path) -> dict[str, str]:
    """Make the documents and programs of a job; returns its environment."""
    (folder / "bin").mkdir()
    (folder / "bin/scontrol").write_text(STUB, encoding="utf-8")
    (folder / "bin/scontrol").chmod(0o755)
    (folder / "study.yaml").write_text(yaml.safe_dump(DOCUMENT), encoding="utf-8")
    path = os.pathsep.join([str(folder / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])
    ray = {"RAY_AUTH_MODE": "disabled"}  # the token is in the home of whoever runs the tests
    return {**os.environ, **ray, "PATH": path, "HOME": str(folder), "OMP_NUM_THREADS": "1", "SLURM_JOB_ID": "17"}


def block(start: str) -> str:
    """The block of commands of the page that begins so."""
    (found,) = [text for text in re.findall(r"```sh\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL) if start in text]
    return str(found)


def wait_for(folder: Path, job: subprocess.Popen[bytes], what: str) -> None:
    """Wait for a text in the output of a job."""
    deadline = time.monotonic() + PATIENCE_S
    while what not in (text := (folder / "job.log").read_text(encoding="utf-8")):
        assert job.poll() is None, text
        assert time.monotonic() < deadline, text
        time.sleep(0.1)


def test_job_of_slurm_goes_on_in_the_next_slot(tmp_path: Path) -> None:
    environment = place(tmp_path)
    script = tmp_path / "job.sh"
    of_the_page = re.compile(r"sparsesearch run --study deit .*?(?= &$)", re.MULTILINE)
    text, count = of_the_page.subn("sparsesearch run study.yaml --study deit", block("SBATCH"))
    assert count == 1
    script.write_text(text, encoding="utf-8")
    codes = []
    for slot in range(4):
        with (tmp_path / "job.log").open("wb") as log:
            job = subprocess.Popen(["sh", script], cwd=tmp_path, env=environment, stdout=log, stderr=log)
        if slot == 0:
            wait_for(tmp_path, job, "dense training, epoch")
            job.terminate()  # as `--signal=B:TERM@300`: the shell alone
        codes.append(job.wait(timeout=PATIENCE_S))
        if codes[-1] != 143:
            break
    assert codes == [143, 0], (tmp_path / "job.log").read_text(encoding="utf-8")
    assert (tmp_path / "scontrol.log").read_text(encoding="utf-8") == "requeue 17\n"
    trials = open_store(f"sqlite:///{tmp_path}/sparsesearch/studies.db").trials("deit")
    assert {trial.state.value for trial in trials} == {"REFERENCE", "COMPLETE"}


def test_commands_for_two_machines(tmp_path: Path) -> None:
    environment = place(tmp_path) | {"SPARSESEARCH_HOME": str(tmp_path / "home")}
    commands = [line for line in block("ray start --address").splitlines() if line.startswith("sparsesearch")]
    assert len(commands) == 2
    with two_nodes(tmp_path, environment=environment) as (address, _):
        for command in commands:
            words = command.replace("/shared", str(tmp_path / "shared")).split()
            (tmp_path / "shared").mkdir(exist_ok=True)
            words += ["--workers-per-training", "2"]  # in place of GPUs
            done = subprocess.run(
                words, cwd=tmp_path, env={**environment, "RAY_ADDRESS": address}, capture_output=True, timeout=600
            )
            assert done.returncode == 0, done.stderr.decode()
    assert (tmp_path / "shared/model.safetensors").exists()

"""A tiny study of every family from dense model to recipe, and one without any training for schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from answers import Answer, Command

SHORT = {"epochs": 1, "images_per_epoch": 64, "batch_size": 32}
REQUEST = {
    "budget": "80%",
    "weights": "scratch",
    "precision": "float32",
    "device": "cpu",
    "dispatcher": "inline",
    "data": {"source": "digits", "num_val_images": 24},
    "baselines": False,
    "fidelity": {"evaluations": 3, "finalists": 1, "dense": SHORT, "supernet_training": SHORT, "finetune": SHORT},
}


def run(command: Command, backbone: str, *flags: str) -> list[dict[str, Any]]:
    Path("study.yaml").write_text(yaml.safe_dump({**REQUEST, "name": "tiny", "backbone": backbone}))
    answer: Answer = command("run", "study.yaml", *flags, "--no-mlflow", "--json")
    assert answer.code == 0, answer.err
    assert Path("tiny/best.yaml").is_file()
    trials: list[dict[str, Any]] = command("trials", "tiny", "--json").document
    return trials


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "reducer"), [("convnext_pico", "fast_slow"), ("swin_pico", "fast_slow"), ("lvvit_pico", "prune")]
)
def test_a_study_of_every_family(command: Command, backbone: str, reducer: str) -> None:
    trials = run(command, backbone)
    assert [trial["fidelity"] for trial in trials] == ["dense", "supernet_training", *["supernet"] * 3, "finetune"]
    assert all(trial["macs"] <= round(0.8 * trials[0]["macs"]) for trial in trials[2:])
    steps = [step for trial in trials[2:] for step in trial["schedule"]["steps"]]
    assert {step["reducer"]["kind"] for step in steps} == {reducer}


@pytest.mark.slow
@pytest.mark.parametrize(("backbone", "scorer"), [("deit_pico", "class_attention"), ("convnext_pico", "norm")])
def test_a_study_without_training_for_schedules(command: Command, backbone: str, scorer: str) -> None:
    trials = run(command, backbone, "--strategy", "training-free")
    assert [trial["fidelity"] for trial in trials] == ["dense", *["untrained"] * 3, "finetune"]
    steps = [step for trial in trials[1:] for step in trial["schedule"]["steps"]]
    assert {step["scorer"]["kind"] for step in steps} == {scorer}

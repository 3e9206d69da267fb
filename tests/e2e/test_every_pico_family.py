"""A tiny study of every family from dense model to recipe, and one without any training for schedules."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from answers import Answer, Command

import sparsesearch
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.scoring import evaluate_model

FREE = {"class_attention", "key_norm", "norm", "random"}
SHORT = {"epochs": 1, "images_per_epoch": 64, "batch_size": 32}
REQUEST: dict[str, Any] = {
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
    searched = [*["supernet"] * 3, *["rescored"] * 2, "finetune"]
    assert [trial["fidelity"] for trial in trials] == ["dense", "supernet_training", *searched]
    assert all(trial["macs"] <= round(0.8 * trials[0]["macs"]) for trial in trials[2:])
    steps = [step for trial in trials[2:] for step in trial["schedule"]["steps"]]
    assert {step["reducer"]["kind"] for step in steps} == {reducer}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "rivals"),
    [
        ("deit_pico", {"ToMe", "ToMe, decreasing", "EViT at 2,4,6", "pruned by chance at 2,4,6"}),
        ("convnext_pico", {"rho at 1,2,3 of stage 1 by token norm", "rho at 0,1,2 of stage 1 by chance"}),
    ],
)
def test_a_study_without_training_for_schedules(command: Command, backbone: str, rivals: set[str]) -> None:
    """It ends with what needs no training, and with a model that is ready to use."""
    fidelity = {key: value for key, value in REQUEST["fidelity"].items() if key != "finalists"}
    document = {**REQUEST, "name": "tiny", "backbone": backbone, "baselines": True, "fidelity": fidelity}
    Path("study.yaml").write_text(yaml.safe_dump(document))
    answer = command("run", "study.yaml", "--strategy", "training-free", "--no-mlflow", "--json")
    assert answer.code == 0, answer.err
    best, model = answer.document["best"], answer.document["model"]
    trials = command("trials", "tiny", "--json").document
    assert {trial["fidelity"] for trial in trials[1:]} == {"untrained", "rescored"}
    assert sum(trial["origin"] == "search" for trial in trials) == 2 * 3
    assert rivals <= {trial["label"] for trial in trials}
    assert {step["scorer"]["kind"] for t in trials for step in t["schedule"]["steps"] if step["scorer"]} <= FREE
    loaded = sparsesearch.load(model)
    task = DigitsTask(image_size=32, in_chans=1, num_val_images=24)
    float32 = Arithmetic(torch.device("cpu"), torch.float32)
    evaluated = evaluate_model(loaded, task.val("confirm", batch_size=24), arithmetic=float32)
    assert evaluated.metrics("val")["val_top1"] == best["metrics"]["val_top1"]
    assert loaded.pretrained_cfg["label_names"] == tuple("0123456789")

"""`bench` and `visualize` as people use them, and the picture of a study in MLflow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from answers import Command
from PIL import Image

from sparsesearch.backbones.registry import PICO
from sparsesearch.schedule import Schedule

BENCH = ("bench", "--backbone", PICO, "--device", "cpu", "--batch-size", "1,8", "--runs", "3", "--seconds", "0.05")
PNG = b"\x89PNG"


def write_steps(path: Path, **step: object) -> Path:
    path.write_text(yaml.safe_dump({"steps": [{"block": 3, "keep_ratio": 0.5, **step}]}))
    return path


def test_bench(command: Command) -> None:
    answer = command(*BENCH, "--rho", "0.5", "--json", "--output", "deep/bench.json", "--plot", "deep/bench.png")
    assert answer.code == 0, answer.err
    found = answer.document
    assert found == json.loads(Path("deep/bench.json").read_text())
    assert Path("deep/bench.png").read_bytes().startswith(PNG)
    assert [batch["conditions"]["batch_size"] for batch in found["batches"]] == [1, 8]
    for batch in found["batches"]:
        assert batch["conditions"]["compiled"] is False
        assert batch["dense"]["min_ms"] <= batch["dense"]["p10_ms"] <= batch["dense"]["median_ms"]
        assert batch["speed_up"] == batch["dense"]["median_ms"] / batch["sparse"]["median_ms"]
    steps = write_steps(Path("steps.yaml"))
    shown = command(*BENCH, "--schedule", steps)
    assert shown.code == 0, shown.err
    assert "deit_pico at 32x32, 3:32" in shown.out
    assert "speed-up" in shown.out
    assert "interleaved" in shown.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--rho", "0.5", "--at", "3"), "several schedules given"),
        (("--rho", "2"), "invalid rate 2"),
        (("--rho", "0.5", "--precision", "int8"), "choose float32, bf16 or fp16"),
        (("--rho", "0.5", "--batch-size", "many"), "invalid --batch-size 'many'"),
        (("--rho", "0.5", "--device", "cuda:99"), "no device cuda:99"),
        (("--rho", "0.5", "--device", "tpu"), "invalid device 'tpu'"),
        (("--schedule", "missing.yaml"), "no such file: missing.yaml"),
        (("--rho", "0.5", "--plot", "."), "is a folder"),
    ],
)
def test_what_bench_cannot_do(command: Command, arguments: tuple[str, ...], said: str) -> None:
    assert said in command("bench", "--backbone", PICO, *arguments).complaint


def test_visualize_without_images_shows_the_demo(command: Command) -> None:
    answer = command("visualize", "--backbone", PICO, "--rho", "0.5", "-o", "deep/kept.png", "--json")
    assert answer.code == 0, answer.err
    assert Path("deep/kept.png").read_bytes().startswith(PNG)
    assert "this is the selection of untrained predictors" in answer.err
    found = answer.document
    assert found["trained"] is False
    assert len(found["images"]) == 4
    for image in found["images"]:
        assert [len(step["kept"]) for step in image["steps"]] == [step["tokens"] for step in image["steps"]]


@pytest.mark.parametrize(
    "step",
    [
        {"scorer": {"kind": "norm"}},
        {"scorer": {"kind": "class_attention"}, "reducer": {"kind": "fuse"}},
        {"reducer": {"kind": "merge"}},
    ],
    ids=["prune", "fuse", "merge"],
)
def test_visualize_a_photograph(command: Command, step: dict[str, object]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (50, 70, 3), dtype=np.uint8)).save("photo.jpg")
    steps = write_steps(Path("steps.yaml"), **step)
    answer = command("visualize", steps, "photo.jpg", "--backbone", PICO, "-o", "kept.png", "--json")
    assert answer.code == 0, answer.err
    (image,) = answer.document["images"]
    (seen,) = image["steps"]
    assert image["image"] == "photo.jpg"
    assert seen["tokens"] == 32
    covered = {*seen["kept"], *seen["fused"]}
    assert len(covered) == (32 if seen["reducer"] == "prune" else 64)
    assert bool(seen["fused"]) == (seen["reducer"] == "fuse")
    assert bool(seen["merged"]) == (seen["reducer"] == "merge")
    assert Path("kept.png").read_bytes().startswith(PNG)


def test_what_visualize_cannot_do(command: Command) -> None:
    Path("text.jpg").write_text("no image")
    asked = ("visualize", "--backbone", PICO, "--rho", "0.5")
    assert "image cat.jpg does not exist" in command(*asked, "cat.jpg").complaint
    assert "text.jpg is not a readable image; give a JPEG, PNG or WebP file" in command(*asked, "text.jpg").complaint
    Image.new("RGB", (3, 3)).save("dot.png")
    assert "less than one patch (4)" in command(*asked, "dot.png").complaint
    assert "multiples of 4" in command(*asked, "--image-size", "33").complaint
    assert "ends in .png, .pdf or .svg" in command(*asked, "-o", "kept.txt").complaint
    assert "no such file: best.yaml" in command("visualize", "best.yaml").complaint
    assert "no model given" in command("visualize", "cat.jpg").complaint
    assert "keeps all tokens" in command("visualize", "--backbone", PICO, "cat.jpg").complaint


@pytest.mark.slow
def test_a_study_in_mlflow_shows_what_its_best_schedule_keeps(
    command: Command, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = {"epochs": 1, "images_per_epoch": 128}
    document = {
        "name": "tiny",
        "backbone": PICO,
        "budget": "40%",
        "dispatcher": "inline",
        "precision": "float32",
        "device": "cpu",
        "baselines": False,
        "data": {"num_val_images": 120},
        "fidelity": {
            "evaluations": 2,
            "finalists": 1,
            "dense": training,
            "supernet_training": training,
            "finetune": training,
            "retrain": training,
        },
    }
    Path("study.yaml").write_text(yaml.safe_dump(document))
    answer = command("run", "study.yaml", "--json")
    assert answer.code == 0, answer.err
    (picture,) = home.rglob("mlflow-artifacts/**/kept_tokens.png")
    assert picture.read_bytes().startswith(PNG)

    recipe = answer.document["recipe"]
    seen = command("visualize", recipe, "--count", "2", "--json")
    assert seen.code == 0, seen.err
    assert seen.document["trained"] is True
    assert "of study tiny" in seen.document["weights"]
    best = Schedule.model_validate(answer.document["best"]["schedule"])
    assert [step["block"] for step in seen.document["images"][0]["steps"]] == [step.block for step in best.steps]
    assert seen.err == "", "trained models need no warning"

    for path in (home / "storage").glob("tiny-*/trial-*"):
        path.unlink()
    lost = command("visualize", recipe, "--json")
    assert lost.code == 0, lost.err
    assert "not on this machine; this is the selection of untrained predictors" in lost.err
    picture.unlink()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home / 'other.db'}")
    assert "page and tables updated" in command("mlflow", "sync").out
    assert not [*home.rglob("kept_tokens.png")], "nothing to draw it from, and no error either"


@pytest.mark.parametrize("backbone", ["deit_pico", "swin_pico"])
def test_costs_are_verified_by_two_counters(command: Command, backbone: str) -> None:
    answer = command("cost", "--backbone", backbone, "--rho", "0.7", "--verify", "--json")
    assert answer.code == 0, answer.err
    counts = answer.document["counts"]
    assert [count["name"] for count in counts] == ["closed form", "torch FlopCounterMode", "fvcore"]
    assert {count["macs"] for count in counts} == {answer.document["macs"]}
    said = command("cost", "--backbone", backbone, "--rho", "0.7", "--verify")
    assert said.out.count(f"{answer.document['macs']:,} multiply-adds") == 4
    assert said.err == ""

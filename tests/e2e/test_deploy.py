"""`export --format` and `compare` as typed, on a study of seconds: what they write, say and refuse."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from answers import Answer, Command
from small_disk import small_disk

import sparsesearch
from sparsesearch.deploy.formats import aoti, onnx, pt2
from sparsesearch.deploy.metadata import read_metadata

pytestmark = pytest.mark.slow

DOCUMENT = {
    "name": "tiny",
    "backbone": "deit_pico",
    "budget": "40%",
    "baselines": False,
    "dispatcher": "inline",
    "precision": "float32",
    "data": {"num_val_images": 240},
    "fidelity": {
        "strategy": "training-free",
        "evaluations": 4,
        "dense": {"epochs": 2, "images_per_epoch": 1500, "batch_size": 50},
    },
}


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a study, its results, and a home."""
    folder = tmp_path_factory.mktemp("deploy")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(DOCUMENT), encoding="utf-8")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def run(program: Command, work: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(work)
    monkeypatch.setenv("SPARSESEARCH_HOME", str(work / "home"))
    if not (work / "found").exists():
        answer = program("run", "tiny.yaml", "--output", "found", "--no-mlflow", "-q")
        assert answer.code == 0, answer.err
    return program


def refused(answer: Answer, line: str) -> None:
    assert answer.code == 2 or line.startswith("model."), answer.err
    assert answer.code != 0
    assert line in answer.err, answer.err
    assert "Traceback" not in answer.err


def test_all_formats_are_checked_and_say_what_they_are(run: Command) -> None:
    answer = run("export", "found/best.safetensors", "--format", "onnx,pt2,timm,safetensors", "--int8", "-o", "made")
    assert answer.code == 0, answer.err
    made = Path("made")
    assert {path.name for path in made.iterdir()} == {
        "export.json", "model.int8.onnx", "model.onnx", "model.pt2", "model.safetensors", "timm",
    }  # fmt: skip
    document = json.loads((made / "export.json").read_text())
    assert document["test_split"] == "opened: 4764 images"
    expected = document["torch_test_top1"]
    for name in ("model.onnx", "model.pt2"):
        assert document["files"][name]["test_top1"] == expected
        assert document["files"][name]["largest_difference_of_a_logit"] <= 1e-4
        assert f"{name}: " in answer.err
    assert set(document["int8"]) == {"sparse float32", "dense float32", "sparse int8", "dense int8"}
    assert document["int8"]["sparse float32"]["test_top1"] == expected
    assert abs(document["int8"]["sparse int8"]["test_top1"] - expected) < 0.05
    assert set(document["files"]["model.onnx"]["speed_relative_to_dense"]) == {"1", "8", "32"}
    for name in ("model.onnx", "model.int8.onnx", "model.pt2"):
        assert read_metadata(made / name)["weights_sha256"] == document["weights_sha256"]
    model = sparsesearch.load(made / "model.safetensors")
    images = torch.randn(3, 1, 32, 32)
    with torch.no_grad():
        logits = model(images)
    for opened in (onnx.open(made / "model.onnx"), pt2.open(made / "model.pt2")):
        assert opened(images)[0].shape == logits.shape
    again = run("export", "found/best.safetensors", "--format", "pt2", "-o", "made")
    refused(again, "made/model.pt2 already exists; choose another folder, or overwrite it with --force")
    assert str(Path.cwd()).encode() not in (made / "model.int8.onnx").read_bytes()
    compared = run(
        "compare", "made/model.onnx", "made/model.int8.onnx", "tiny", "dense", "-o", "compared.html", "--json"
    )
    assert compared.code == 0, compared.err
    found = json.loads(compared.out)
    assert [each["runtime"] for each in found["models"]] == ["onnx", "onnx", "torch", "torch"]
    assert found["models"][0]["test_top1"] == expected
    assert found["models"][2]["test_top1"] == expected
    assert found["models"][1]["macs"] == found["models"][2]["macs"] < found["models"][3]["macs"]
    assert found["test_images"] == 4764
    assert Path("compared.html").read_text().startswith("<!doctype html>")


def test_a_compiled_package(run: Command) -> None:
    answer = run("export", "found/best.safetensors", "--format", "aoti", "--no-speed", "-o", "compiled")
    assert answer.code == 0, answer.err
    document = json.loads(Path("compiled/export.json").read_text())
    assert document["files"]["model.aoti.pt2"]["test_top1"] == document["torch_test_top1"]
    assert read_metadata(Path("compiled/model.aoti.pt2"))["weights_sha256"] == document["weights_sha256"]
    assert aoti.open(Path("compiled/model.aoti.pt2"))(torch.randn(3, 1, 32, 32))[0].shape == (3, 10)


def test_a_trial_of_a_study(run: Command) -> None:
    answer = run("export", "tiny", "--trial", "2", "--format", "pt2", "--no-accuracy", "-o", "of-trial", "-q")
    assert answer.code == 0, answer.err
    document = json.loads(Path("of-trial/export.json").read_text())
    assert document["model"] == "trial 2 of study tiny"
    assert document["test_split"] == "not opened"
    assert read_metadata(Path("of-trial/model.pt2"))["accuracy"] == "not checked (--no-accuracy)"
    assert "test_top1" not in document["files"]["model.pt2"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ("found/best.yaml", "--format", "onnx"),
            "found/best.yaml has no weights, as recipes have none; train it first",
        ),
        (("gone.safetensors", "--format", "onnx"), "there is no file gone.safetensors; give a file of sparsesearch"),
        (("found/best.safetensors",), "found/best.safetensors is a file; say in which formats to write it"),
        (("found/best.safetensors", "--format", "tflite"), "unknown format 'tflite'; choose from aoti, onnx"),
        (
            ("found/best.safetensors", "--format", "onnx", "--opset", "9"),
            "opset 9 is not supported; choose one from 18",
        ),
        (("found/best.safetensors", "--format", "pt2", "--trial", "1"), "is a file, which has no trials"),
        (("tiny", "--format", "pt2", "--trial", "99"), "study tiny has no trial 99; see: sparsesearch trials tiny"),
        (("tiny", "--format", "pt2", "--budget", "30%"), "with --format, choose by --trial"),
        (("unknown", "--format", "pt2"), "no study 'unknown'"),
        (("found/best.safetensors", "--format", "pt2", "--int8"), "--int8 quantises the format onnx"),
        (("found/best.safetensors", "--format", "pt2", "--data", "folder:/gone"), "the accuracy cannot be checked ("),
        (
            ("found/best.safetensors", "--format", "onnx", "--no-accuracy", "--tolerance", "0"),
            "model.onnx: logits differ by",
        ),
    ],
)
def test_refusals_leave_no_file(run: Command, arguments: tuple[str, ...], line: str) -> None:
    before = {path.name for path in Path().iterdir()}
    refused(run("export", *arguments, "-o", "refused", "-q"), line)
    assert {path.name for path in Path().iterdir()} == before


def test_a_full_disk_leaves_no_file(run: Command, work: Path, tmp_path: Path) -> None:
    with small_disk(tmp_path / "small", kilobytes=300) as disk:
        answer = run("export", "found/best.safetensors", "--format", "pt2", "--no-accuracy", "-o", f"{disk}/made", "-q")
        assert answer.code == 75, answer.err
        assert "no space" in answer.err.lower() or "full" in answer.err, answer.err
        assert list(disk.iterdir()) == []

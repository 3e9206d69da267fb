"""The commands in the order in which a person uses them, on a tiny study."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Command

import sparsesearch
from sparsesearch.cost.traced import traced_macs
from sparsesearch.export.checkpoint import read_card

pytestmark = pytest.mark.slow

TINY = {
    "evaluations": 4,
    "finalists": 2,
    "dense": {"epochs": 2, "images_per_epoch": 256},
    "elastic_training": {"epochs": 2, "images_per_epoch": 256},
    "finetune": {"epochs": 1, "images_per_epoch": 128},
    "retrain": {"epochs": 1, "images_per_epoch": 256},
}


def tiny_document(command: Command, **changes: Any) -> Path:
    """What `init` writes, made tiny."""
    path = Path("study.yaml")
    assert command("init", "--force", "-o", path).code == 0
    document = yaml.safe_load(path.read_text(encoding="utf-8"))
    for phase, wishes in TINY.items():
        if isinstance(wishes, dict):
            document["fidelity"][phase].update(wishes)
        else:
            document["fidelity"][phase] = wishes
    document["data"]["num_val_images"] = 240
    document |= {"name": "tiny", "precision": "float32", "budget": {"unit": "share", "low": 0.25, "high": 0.45}}
    document["fidelity"] |= changes
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    return path


def test_from_a_document_to_a_model_in_a_new_process(command: Command) -> None:
    result = command("run", tiny_document(command), "--json").document
    assert set(result) == {"study", "best", "recipe", "front_png"}
    assert set(result["best"]) >= {"trial", "macs", "metrics", "schedule"}
    assert Path(result["front_png"]).stat().st_size > 10_000
    assert yaml.safe_load(Path(result["recipe"]).read_text(encoding="utf-8"))["note"].startswith("found on the bundled")

    trials = command("trials", "tiny", "--json").document
    assert all(set(t) >= {"id", "state", "fidelity", "macs", "metrics", "schedule", "attempt"} for t in trials)
    assert [t["id"] for t in trials] == list(range(len(trials)))
    assert {t["state"] for t in trials} == {"COMPLETE", "REFERENCE"}
    dense = trials[0]["macs"]
    candidates = [t for t in trials if t["state"] == "COMPLETE"]
    assert all(t["macs"] <= 0.45 * dense for t in candidates)
    assert {t["origin"] for t in candidates} == {"search", "baseline"}

    front = command("front", "tiny", "--json").document
    assert front["fidelity"] == "finetune"
    assert front["reference"]["id"] == 0
    macs = [point["macs"] for point in front["points"]]
    assert macs == sorted(macs)
    assert result["best"]["trial"] in [point["id"] for point in front["points"]]

    assert [row["study"] for row in command("studies", "--json").document] == ["tiny"]
    assert command("show", "tiny", "--json").document["spec"]["backbone"] == "deit_pico"
    for words in (("trials", "tiny"), ("front", "tiny"), ("studies",), ("show", "tiny")):
        assert "tiny" in command(*words).out

    cheap = front["points"][0]["macs"]
    assert command("export", "tiny", "--budget-gflops", cheap / 1e9, "-o", "cheap.yaml").code == 0
    trained = command("retrain", "cheap.yaml", "-o", "model.safetensors", "--json").document
    assert trained["macs"] == cheap
    assert 0 <= trained["metrics"]["test_top1"] <= 1
    assert trained["metrics"]["test_images"] == 4764

    model = sparsesearch.load("model.safetensors")
    images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert traced_macs(model, images[:1]) == cheap == read_card("model.safetensors").macs
    with torch.no_grad():
        logits = model(images)
    script = (
        "import sparsesearch, torch, json\n"
        "model = sparsesearch.load('model.safetensors')\n"
        "images = torch.randn(4, 1, 32, 32, generator=torch.Generator().manual_seed(0))\n"
        "print(json.dumps(model(images).tolist()))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == logits.tolist()

    assert command("delete", "tiny", "--yes").code == 0
    assert command("studies", "--json").document == []


def test_without_elastic_training_every_candidate_is_trained_from_dense(command: Command) -> None:
    document = tiny_document(command, elastic=False, evaluations=2)
    assert command("run", document, "--budget", "35%", "--no-baselines", "--json").code == 0
    trials = command("trials", "tiny", "--json").document
    assert [t["fidelity"] for t in trials] == ["dense", "finetune", "finetune"]
    assert command("front", "tiny", "--json").document["fidelity"] == "finetune"


def test_a_finished_study_can_be_resumed_and_changes_nothing(command: Command) -> None:
    first = command("run", tiny_document(command), "--evaluations", 2, "--no-baselines", "--json").document
    before = command("trials", "tiny", "--json").document
    assert command("resume", "tiny", "--json").document == first
    assert command("trials", "tiny", "--json").document == before

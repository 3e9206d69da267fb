"""The folder for timm: loaded in a fresh process, trained further on other classes, and shown on its page."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
import timm
import torch
import yaml

from sparsesearch.deploy.check import check_outputs
from sparsesearch.deploy.exported import Exported
from sparsesearch.deploy.formats import timm as timm_folder
from sparsesearch.schedule import Schedule


@pytest.fixture
def folder(one: Exported, tmp_path: Path) -> Path:
    import_module("sparsesearch.timm")  # not before: it registers names that other tests would list
    timm_folder.write(replace(one, pictures=one.example(batch=3)), tmp_path / "timm")
    return tmp_path / "timm"


@pytest.mark.slow
def test_a_fresh_process_loads_it(exported: Exported, tmp_path: Path) -> None:
    timm_folder.write(exported, tmp_path / "timm")
    run = timm_folder.open(tmp_path / "timm")
    assert torch.equal(run(exported.example())[0], exported.model(exported.example()))


def test_this_process_loads_it(one: Exported, folder: Path) -> None:
    def run(images: torch.Tensor) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return (timm.create_model(f"local-dir:{folder}", pretrained=True).eval()(images),)

    assert check_outputs("timm", one.model, one.example(batch=5), run=run, run_kept=None) == 0.0
    config = timm.data.resolve_model_data_config(timm.create_model(f"local-dir:{folder}"))
    assert (*config["mean"], *config["std"], *config["input_size"]) == (0.2, 0.4, 1, 32, 32)


def test_other_classes_start_from_its_weights(one: Exported, folder: Path) -> None:
    model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=3).eval()
    own, saved = model.state_dict(), one.model.state_dict()
    assert model(one.example()).shape == (2, 3)
    assert {name for name in saved if not torch.equal(own[name], saved[name])} == {"head.weight", "head.bias"}


def test_without_weights_only_the_schedule_is_its(one: Exported, folder: Path) -> None:
    model = timm.create_model(f"local-dir:{folder}")
    assert model.sparsity.schedule == one.card.schedule
    assert not torch.equal(model.head.weight, one.model.head.weight)


def test_its_files(one: Exported, folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "config.json", "kept_tokens.png", "model.safetensors", "schedule.yaml",
    }  # fmt: skip
    config = json.loads((folder / "config.json").read_text())
    assert config["architecture"] == "sparse_deit_pico"
    assert config["label_names"] == list("abcdefghij")
    schedule = yaml.safe_load((folder / "schedule.yaml").read_text())
    assert Schedule.model_validate(schedule) == one.card.schedule
    page = (folder / "README.md").read_text()
    assert page.startswith("---\ntags:\n- image-classification\n")
    assert "import sparsesearch.timm" in page
    assert "% of the dense model's" in page
    assert one.card.weights_sha256 in page
    assert "](kept_tokens.png)" in page
    assert (folder / "model.safetensors").stat().st_mode == (folder / "config.json").stat().st_mode

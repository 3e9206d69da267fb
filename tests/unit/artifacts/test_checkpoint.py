"""Saved models: what a loaded model says about its input and its classes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm.data
import torch
from PIL import Image

import sparsesearch
from sparsesearch import Schedule
from sparsesearch.artifacts.checkpoint import ImagePreprocessing, ModelCard, read_card, save
from sparsesearch.backbones.registry import create_model
from sparsesearch.data.inputs import preprocessing_for
from sparsesearch.errors import CheckpointError
from sparsesearch.study.spec import DataSpec
from sparsesearch.training.checkpoints import read_tensors, write_tensors

SCHEDULE = Schedule.at([2], [0.5])


def saved(path: Path, *, backbone: str, data: DataSpec, size: int, chans: int, **card: Any) -> Any:
    """Save an untrained sparse model as `retrain` does, and return its preprocessing."""
    model = create_model(backbone, num_classes=2, in_chans=chans, image_size=size)
    sparsesearch.sparsify_(model, SCHEDULE)
    files = preprocessing_for(backbone, data, in_chans=chans, image_size=size)
    made = ImagePreprocessing(
        mean=files.mean[:chans], std=files.std[:chans], interpolation=files.interpolation, crop_pct=files.crop_pct
    )
    known = {"num_classes": 2, "in_chans": chans, "image_size": size, "preprocessing": made} | card
    save(model, path, card=ModelCard(backbone=backbone, schedule=SCHEDULE, macs=1, **known))
    return files


@pytest.mark.parametrize(
    ("backbone", "source", "size", "chans"),
    [
        ("deit_pico", "digits", 32, 1),
        ("deit_pico", "folder:x", 48, 3),
        ("vit_tiny_patch16_224", "folder:x", 64, 3),
        ("lvvit_pico", "folder:x", 32, 3),
    ],
)
def test_a_loaded_model_has_the_preprocessing_of_its_training(
    tmp_path: Path, backbone: str, source: str, size: int, chans: int
) -> None:
    path = tmp_path / "model.safetensors"
    files = saved(path, backbone=backbone, data=DataSpec(source=source), size=size, chans=chans)
    model: Any = sparsesearch.load(path)
    config = timm.data.resolve_model_data_config(model)
    assert config["input_size"] == (chans, size, size)
    pixels = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    image = Image.fromarray(pixels).convert(files.mode)
    found = timm.data.create_transform(**config, is_training=False)(image)
    assert torch.equal(found, files.normalisation(files.transform(is_training=False)(image)[None])[0])
    assert model(found[None]).shape == (1, 2)


def test_a_loaded_model_has_the_names_of_its_classes(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    saved(path, backbone="deit_pico", data=DataSpec(), size=32, chans=1, class_names=("circle", "square"))
    model: Any = sparsesearch.load(path)
    assert model.pretrained_cfg["label_names"] == ("circle", "square")
    assert read_card(path).class_names == ("circle", "square")


def test_a_file_without_these_is_loaded_with_the_defaults_of_its_backbone(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    saved(path, backbone="vit_tiny_patch16_224", data=DataSpec(), size=64, chans=3, preprocessing=None)
    model: Any = sparsesearch.load(path)
    config = timm.data.resolve_model_data_config(model)
    assert (config["input_size"], config["mean"]) == ((3, 64, 64), (0.5, 0.5, 0.5))
    assert "label_names" not in model.pretrained_cfg


def test_damaged_values_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    saved(path, backbone="deit_pico", data=DataSpec(source="digits"), size=32, chans=1)
    tensors, document = read_tensors(path)
    tensors["blocks.3.mlp.fc1.weight"][:2, 0] = float("inf")
    write_tensors(path, tensors, metadata=document)
    with pytest.raises(CheckpointError, match=r"1 unusable \(blocks.3.mlp.fc1.weight has NaN or .* values, 2 of 9,216"):
        sparsesearch.load(path)

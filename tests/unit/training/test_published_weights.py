"""Published weights, from a local copy of the hub: what is loaded, what is said about it, and what they are called."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from weight_defects import Tensors, weights_of, write

from sparsesearch.data.task import Task
from sparsesearch.errors import CheckpointError
from sparsesearch.training.published_weights import weights_identity
from sparsesearch.training.weights import check_weights, dense_start


@dataclass(frozen=True)
class Input:
    """What of a task the initial weights depend on."""

    num_classes: int = 1000
    in_chans: int = 3
    image_size: int = 160


def task(**options: int) -> Task:
    return cast(Task, Input(**options))


@pytest.fixture
def publish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Puts weights where the hub's client looks for them first."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))

    def put(backbone: str, tensors: Tensors) -> None:
        folder = tmp_path / "hub" / f"models--{timm.get_pretrained_cfg(backbone).hf_hub_id.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0" * 40)
        (folder / "snapshots" / ("0" * 40)).mkdir(parents=True)
        save_file(tensors, folder / "snapshots" / ("0" * 40) / "model.safetensors")

    return put


@pytest.mark.parametrize("backbone", ["test_vit", "test_convnext"])
def test_what_is_loaded_is_said(publish, backbone: str) -> None:
    tensors = weights_of(backbone, num_classes=1000, in_chans=3, image_size=160)
    publish(backbone, tensors)
    start = dense_start("pretrained", backbone=backbone, task=task(), seed=0)
    state = start.model.state_dict()
    assert start.has_head
    assert all(torch.equal(state[name], tensor) for name, tensor in tensors.items())
    assert start.loaded == f"weights: {backbone}.r160_in1k of timm, {len(tensors)} of {len(tensors)} tensors"


def test_a_head_is_replaced_and_its_norm_is_kept(publish) -> None:
    tensors = weights_of("test_convnext", num_classes=1000, in_chans=3, image_size=160)
    publish("test_convnext", tensors)
    start = dense_start(
        "pretrained", backbone="test_convnext", task=task(num_classes=7, in_chans=1, image_size=64), seed=0
    )
    state = start.model.state_dict()
    assert not start.has_head
    assert torch.equal(state["head.norm.weight"], tensors["head.norm.weight"])
    assert state["head.fc.weight"].shape[0] == 7
    assert start.loaded == (
        f"weights: test_convnext.r160_in1k of timm, {len(tensors) - 2} of {len(tensors)} tensors; "
        "made for images of 160 pixels, used at 64; first convolution adapted 3 -> 1 channels; "
        "head left out (1000 -> 7 classes)"
    )


def test_published_weights_are_checked_for_finiteness(publish) -> None:
    tensors = weights_of("test_vit", num_classes=1000, in_chans=3, image_size=160)
    tensors["norm.weight"][3] = float("nan")
    publish("test_vit", tensors)
    with pytest.raises(CheckpointError, match=r"r160_in1k cannot .*\(norm.weight has NaN or infinite values, 1 of 64"):
        check_weights("pretrained", backbone="test_vit", task=task())


def test_no_weights_are_said_too() -> None:
    checked = check_weights("scratch", backbone="deit_pico", task=task())
    assert checked == ("weights: none, deit_pico is trained from scratch", False)


def test_identity(tmp_path: Path) -> None:
    tensors, other = weights_of(), weights_of(seed=8)
    one = write(tmp_path / "one", tensors, ["safetensors"])
    same = write(tmp_path / "same", tensors, ["safetensors by another name"])
    changed = write(tmp_path / "changed", other, ["safetensors"])
    folder = write(tmp_path / "folder", tensors, ["Hugging Face folder"])
    shards = write(tmp_path / "shards", tensors, ["shards"])
    assert weights_identity("deit_pico", str(one)) == weights_identity("deit_pico", str(same))
    assert weights_identity("deit_pico", str(one)) == weights_identity("deit_pico", str(folder))
    names = [weights_identity("deit_pico", str(path)) for path in (one, changed, shards)]
    assert len({*names, "scratch"}) == 4
    assert weights_identity("deit_pico", "scratch") == "scratch"
    version = timm.__version__
    name = "deit_small_patch16_224"
    assert weights_identity(name, "pretrained") == f"{name}.fb_in1k@timm {version}"
    assert weights_identity(f"{name}.fb_in1k", "pretrained") == f"{name}.fb_in1k@timm {version}"
    with pytest.raises(CheckpointError, match="no such weights file"):
        weights_identity("deit_pico", str(tmp_path / "none"))

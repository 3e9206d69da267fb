"""`--weights`: files of several kinds, heads that fit and heads that do not, and a hub out of reach."""

from __future__ import annotations

import time
from pathlib import Path

import huggingface_hub
import huggingface_hub.constants
import pytest
import timm
import torch
from answers import Command
from safetensors.torch import load_file, save_file
from shapes import write_classes
from torch import Tensor

from sparsesearch.app.complete import complete
from sparsesearch.backbones.registry import PICO, create_model
from sparsesearch.data.inputs import open_task
from sparsesearch.data.task import Task
from sparsesearch.errors import CheckpointError
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import DataSpec
from sparsesearch.training.published_weights import resolve_weights
from sparsesearch.training.weights import dense_start

DEIT_S = "deit_small_patch16_224"


class Lines(Silent):
    """Keeps what people are told."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


@pytest.fixture
def task() -> Task:
    return open_task(DataSpec(), backbone=PICO)


def weights_of(num_classes: int) -> dict[str, Tensor]:
    return create_model(PICO, num_classes=num_classes, in_chans=1, seed=3).state_dict()


class TestFiles:
    @pytest.mark.parametrize("wrap", ["plain", "model", "model_ema", "state_dict", "ddp"])
    def test_torch_files(self, home: Path, task: Task, wrap: str) -> None:
        tensors = weights_of(10)
        content: object = tensors if wrap == "plain" else {wrap: tensors, "epoch": 3, "optimizer": {"lr": 0.1}}
        if wrap == "ddp":
            content = {f"module.{name}": tensor for name, tensor in tensors.items()}
        torch.save(content, "w.pth")
        start = dense_start("w.pth", backbone=PICO, task=task, seed=0)
        assert start.has_head
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in start.model.state_dict().items())

    def test_safetensors(self, home: Path, task: Task) -> None:
        tensors = weights_of(10)
        save_file(tensors, "w.safetensors")
        start = dense_start("w.safetensors", backbone=PICO, task=task, seed=0)
        assert start.has_head
        assert all(torch.equal(tensor, tensors[name]) for name, tensor in start.model.state_dict().items())

    @pytest.mark.parametrize("head", ["larger", "missing", "half"])
    def test_a_head_that_does_not_fit_is_replaced(self, home: Path, task: Task, head: str) -> None:
        tensors = weights_of(1000 if head == "larger" else 10)
        if head == "missing":
            tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith("head.")}
        elif head == "half":
            del tensors["head.bias"]
        save_file(tensors, "w.safetensors")
        start = dense_start("w.safetensors", backbone=PICO, task=task, seed=0)
        assert not start.has_head
        found = start.model.state_dict()
        assert found["head.weight"].shape == (10, 48)
        assert not torch.equal(found["head.weight"], weights_of(10)["head.weight"])
        assert all(torch.equal(found[name], tensors[name]) for name in tensors if not name.startswith("head."))

    @pytest.mark.parametrize("fault", ["missing", "unknown", "of another shape"])
    def test_what_does_not_fit_is_listed(self, home: Path, task: Task, fault: str) -> None:
        tensors = weights_of(10)
        if fault == "missing":
            del tensors["blocks.3.mlp.fc1.weight"]
        elif fault == "unknown":
            tensors["blocks.3.ls1.gamma"] = torch.ones(48)
        else:
            tensors["pos_embed"] = torch.zeros(1, 198, 48)
        save_file(tensors, "w.safetensors")
        with pytest.raises(
            CheckpointError, match=f"w.safetensors does not fit the model; weights: 1 {fault}"
        ) as caught:
            dense_start("w.safetensors", backbone=PICO, task=task, seed=0)
        assert "\n" not in str(caught.value)

    def test_paths_become_absolute(self, home: Path) -> None:
        assert resolve_weights("w.pth", backbone=PICO) == (str(Path.cwd() / "w.pth"), None)
        assert resolve_weights("scratch", backbone=DEIT_S) == ("scratch", None)


class TestHub:
    @pytest.fixture
    def closed(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A hub at a port of this machine where nobody listens."""
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home / "hub"))
        huggingface_hub.close_session()

    @pytest.mark.usefixtures("closed")
    def test_out_of_reach_is_an_error_within_seconds(self) -> None:
        started = time.monotonic()
        with pytest.raises(CheckpointError, match=r"not available \(the weights hub does not respond") as caught:
            resolve_weights("pretrained", backbone=DEIT_S)
        assert time.monotonic() - started < 15
        assert "\n" not in str(caught.value)
        assert "--weights PATH" in str(caught.value)
        assert "--weights scratch" in str(caught.value)

    def test_switched_off(self, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(home / "hub"))
        with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE is set"):
            resolve_weights("pretrained", backbone=DEIT_S)

    @pytest.mark.usefixtures("closed")
    def test_weights_in_the_local_cache_need_no_hub(self, home: Path) -> None:
        repository = timm.get_pretrained_cfg(DEIT_S).hf_hub_id
        folder = home / "hub" / f"models--{repository.replace('/', '--')}"
        (folder / "refs").mkdir(parents=True)
        (folder / "refs" / "main").write_text("0123")
        (folder / "snapshots" / "0123").mkdir(parents=True)
        save_file({"x": torch.zeros(1)}, folder / "snapshots" / "0123" / "model.safetensors")
        assert resolve_weights("pretrained", backbone=DEIT_S) == ("pretrained", None)

    @pytest.mark.usefixtures("closed")
    def test_a_study_ends_with_one_line(self) -> None:
        request = {"name": "x", "backbone": "deit_s", "budget": "65%", "data": "folder:/data"}
        with pytest.raises(CheckpointError, match="pretrained weights of deit_small_patch16_224 are not available"):
            complete(request, progress=Lines())
        assert complete({**request, "weights": "scratch"}, progress=Lines()).weights == "scratch"

    def test_weights_that_were_never_published_are_refused_if_asked_for(self) -> None:
        request = {"name": "x", "backbone": PICO, "budget": "65%", "data": "folder:/data"}
        assert complete(request, progress=Lines()).weights == "scratch"
        with pytest.raises(CheckpointError, match="deit_pico has no published weights; give a file"):
            complete({**request, "weights": "pretrained"}, progress=Lines())

    @pytest.mark.usefixtures("closed")
    def test_the_demo_goes_on_from_scratch_with_one_line(self) -> None:
        lines = Lines()
        spec = complete({"name": "x", "backbone": "deit_s", "budget": "65%"}, progress=lines)
        assert spec.weights == "scratch"
        assert len(lines.lines) == 1
        assert spec.fidelity.dense.lr > 1e-4, "the recipe is the one for training from scratch"

    @pytest.mark.usefixtures("closed")
    def test_a_document_is_written_without_asking_the_hub(self, command: Command) -> None:
        answer = command("init", "--backbone", "deit_s")
        assert answer.code == 0
        assert "are not available" not in answer.err
        assert "weights: pretrained\n" in Path("study.yaml").read_text(encoding="utf-8")


SHAPES = """
name: NAME
backbone: deit_pico
budget: 40%
dispatcher: inline
precision: float32
device: cpu
baselines: false
data: {source: "folder:DATA", image_size: 32}
weights: WEIGHTS
fidelity:
  evaluations: 1
  finalists: 1
  dense: {epochs: EPOCHS, batch_size: 32, lr: 2.0e-3}
  supernet_training: {epochs: 1, images_per_epoch: 32, batch_size: 32}
  finetune: {epochs: 1, images_per_epoch: 32, batch_size: 32}
"""


@pytest.mark.slow
def test_a_teacher_is_checked(command: Command, home: Path, tmp_path: Path) -> None:
    """Weights with a head of the right size are used as they are, unless their classes are not those of the data."""
    for number, split in enumerate(("train", "val")):
        write_classes(tmp_path / "data" / split, per_class=160 if split == "train" else 40, seed=number)

    def run(name: str, weights: str, *, epochs: int = 1) -> list[str]:
        text = SHAPES.replace("NAME", name).replace("DATA", str(tmp_path / "data")).replace("WEIGHTS", weights)
        Path("study.yaml").write_text(text.replace("EPOCHS", str(epochs)), encoding="utf-8")
        answer = command("run", "study.yaml", "--no-mlflow", "--json")
        return [str(answer.code), *answer.err.splitlines()]

    first = run("first", "scratch", epochs=15)
    assert first[0] == "0"
    assert "weights: none, deit_pico is trained from scratch" in "\n".join(first)
    (trained,) = (home / "storage").glob("first-*/dense.safetensors")
    dense = command("trials", "first", "--json").document[0]
    assert dense["metrics"]["val_top1"] > 0.75

    second = run("second", str(trained))
    assert second[0] == "0"
    assert f"weights: {trained}, 114 of 114 tensors" in "\n".join(second)
    taken_over = command("trials", "second", "--json").document[0]
    assert taken_over["metrics"]["val_top1"] > 0.75
    assert taken_over["fidelity"] == "dense"

    tensors = load_file(trained)
    for name in ("head.weight", "head.bias"):
        tensors[name] = tensors[name].roll(1, dims=0)
    save_file(tensors, "permuted.safetensors")
    code, *lines = run("third", "permuted.safetensors")
    assert code == "2"
    assert "check that the classes of the data are in the order" in lines[-1]
    assert "chance is 33.3%" in lines[-1]
    assert [row["study"] for row in command("studies", "--json").document] == ["first", "second"]

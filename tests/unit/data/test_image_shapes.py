"""Images that are not square, from the data to the saved model: height is never taken for width."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image
from timm.layers import resample_abs_pos_embed
from typer.testing import CliRunner
from weight_reading import load as load_weights
from weight_reading import model_of

import sparsesearch
import sparsesearch.timm
from sparsesearch.app.check_data import check_data
from sparsesearch.app.validate import validate
from sparsesearch.artifacts.checkpoint import ImagePreprocessing, ModelCard, read_card, save, stamped
from sparsesearch.artifacts.model_reference import find_model
from sparsesearch.backbones.lookup import backbone_geometry, own_input
from sparsesearch.backbones.registry import built_geometry, create_model
from sparsesearch.cli.app import app
from sparsesearch.cost.analytic import dense_macs
from sparsesearch.data.inputs import open_task, preprocessing_for, preprocessing_of
from sparsesearch.data.task import Epoch
from sparsesearch.errors import BackboneError, CheckpointError, SpecError
from sparsesearch.latency.bench.__main__ import main as bench
from sparsesearch.schedule import Schedule
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import DataSpec
from sparsesearch.visualize.kept_tokens import alone
from sparsesearch.visualize.model import open_inspection

SIZE = (32, 24)
SCHEDULE = Schedule.at([2], [0.5])


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two classes of pictures whose left half is red and whose right half is blue."""
    monkeypatch.setenv("SPARSESEARCH_HOME", str(tmp_path / "home"))
    folder = tmp_path / "pictures"
    for part, count in (("train", 4), ("val", 4), ("test", 1)):
        for name, shade in (("dark", 120), ("light", 255)):
            (folder / part / name).mkdir(parents=True)
            pixels = np.zeros((60, 80, 3), dtype=np.uint8)
            pixels[:, :40, 0] = pixels[:, 40:, 2] = shade
            for number in range(count):
                pixels[0, 0] = number  # no two are equal
                Image.fromarray(pixels).save(folder / part / name / f"{number}.png")
    return folder


def data(pictures: Path, size: object = "32x24") -> DataSpec:
    return DataSpec.model_validate({"source": f"folder:{pictures}", "image_size": size})


@pytest.mark.parametrize("name", ["deit_s", "convnext_tiny", "swin_tiny", "lvvit_s"])
def test_costs_are_those_of_built_models(name: str) -> None:
    shape = backbone_geometry(name, image_size=(256, 192))
    assert shape == built_geometry(shape.name, image_size=(256, 192))
    assert shape.stages[0].grid[0] * 3 == shape.stages[0].grid[1] * 4
    assert shape != backbone_geometry(name, image_size=(192, 256))
    assert backbone_geometry(name, image_size=(224, 224)) == backbone_geometry(name, image_size=224)


def test_a_default_size_that_is_not_square() -> None:
    assert own_input("vit_base_patch16_sapiens2") == ((1024, 768), 3)
    assert preprocessing_of("vit_base_patch16_sapiens2", DataSpec(source="folder:x")).image_size == (1024, 768)


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["deit_pico", "swin_pico", "test_vit"])
def test_batches_of_a_task(pictures: Path, backbone: str) -> None:
    size = (64, 48) if backbone == "test_vit" else SIZE
    task = open_task(data(pictures, size), backbone=backbone)
    assert task.image_size == size
    training = next(task.fresh_epoch(Epoch(number=0, seed=0, batch_size=4))).images
    scored = next(task.val("screen", batch_size=4)).normalised().images
    assert training.shape == scored.shape == (4, 3, *size)
    red, blue = scored[:, 0], scored[:, 2]
    assert (red[..., :2] > red[..., -2:] + 0.1).all()
    assert (blue[..., -2:] > blue[..., :2] + 0.1).all()
    assert create_model(backbone, num_classes=2, image_size=size, in_chans=3).eval()(scored).shape == (4, 2)
    assert task.fingerprint != open_task(data(pictures, size[::-1]), backbone=backbone).fingerprint


def test_equal_squares_are_the_same_data(pictures: Path) -> None:
    found = {open_task(data(pictures, size), backbone="deit_pico").fingerprint for size in (32, "32x32", [32, 32])}
    assert len(found) == 1
    assert str(preprocessing_of("deit_pico", data(pictures, [48, 48]))).startswith("Preprocessing(image_size=48, ")


def test_a_study_on_them(pictures: Path) -> None:
    document = {"backbone": "deit_pico", "budget": "60%", "data": {"source": f"folder:{pictures}"}}
    document["data"]["image_size"] = [32, 24]  # type: ignore[index]
    spec = validate(document)
    assert spec.data.image_size == SIZE
    assert type(spec).model_validate_json(spec.model_dump_json()) == spec
    with pytest.raises(BackboneError, match=r"invalid image size 33x24 for deit_pico and deit_nano; .* multiples of 4"):
        validate({**document, "data": {"source": f"folder:{pictures}", "image_size": "33x24"}})


def test_the_bundled_task_is_square() -> None:
    with pytest.raises(SpecError, match="the images of digits:hard are square, not 32x24; give --image-size one num"):
        validate({"backbone": "deit_pico", "budget": "60%", "data": {"source": "digits:hard", "image_size": SIZE}})


def test_what_a_study_would_use(pictures: Path) -> None:
    found = check_data(data(pictures), backbone="deit_pico", decode_all=False, progress=Silent()).document()
    assert json.loads(json.dumps(found))["image_size"] == [32, 24]


@torch.no_grad()
def test_a_saved_model_and_its_pictures(pictures: Path, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    files = preprocessing_for("deit_pico", data(pictures), in_chans=3, image_size=None)
    made = ImagePreprocessing(mean=files.mean, std=files.std, interpolation="bicubic", crop_pct=files.crop_pct)
    card = ModelCard(
        backbone="deit_pico", schedule=SCHEDULE, num_classes=2, in_chans=3, image_size=SIZE, preprocessing=made, macs=1
    )
    model = create_model("deit_pico", num_classes=2, in_chans=3, image_size=SIZE).eval()
    sparsesearch.sparsify_(model, SCHEDULE)
    save(model, path, card=card)
    assert read_card(path) == stamped(card, model.state_dict())
    loaded: Any = sparsesearch.load(path)
    picture = pictures / "val" / "dark" / "0.png"
    config = timm.data.resolve_model_data_config(loaded)
    assert config["input_size"] == (3, *SIZE)
    image = timm.data.create_transform(**config, is_training=False)(Image.open(picture))
    ours = files.normalisation(files.transform(is_training=False)(Image.open(picture))[None])
    assert torch.equal(image, ours[0])
    assert torch.equal(loaded(image[None]), model(image[None]))
    again: Any = timm.create_model("sparse_deit_pico", schedule=path, checkpoint_path=str(path)).eval()
    assert torch.equal(again(image[None]), model(image[None]))
    reference = find_model(schedule=path)
    assert reference.image_size == SIZE
    view = open_inspection(reference, model_file=path).of_files([picture])[0]
    assert view.pixels_HW3.shape == (*SIZE, 3)
    assert view.steps[0].grid == (8, 6)
    assert alone(view).shape == (96, 72, 3)
    with pytest.raises(SpecError, match="expects images of 32x24 pixels; omit --image-size"):
        open_inspection(find_model(schedule=path, image_size=(24, 32)), model_file=path)


@torch.no_grad()
@pytest.mark.parametrize(
    "name", ["deit_tiny_patch16_224", "lvvit_pico", "convnext_atto", "swin_tiny_patch4_window7_224"]
)
def test_a_recipe_determines_the_size(name: str) -> None:
    schedule = Schedule() if name.startswith(("convnext", "swin")) else SCHEDULE
    recipe = {"backbone": name, "schedule": schedule, "num_classes": 2, "in_chans": 3, "image_size": [64, 48]}
    model: Any = timm.create_model(f"sparse_{name}", schedule=recipe).eval()
    assert model.sparsity.geometry.image_size == (64, 48)
    assert timm.data.resolve_model_data_config(model)["input_size"] == (3, 64, 48)
    assert model(torch.zeros(1, 3, 64, 48)).shape == (1, 2)


@pytest.mark.parametrize("backbone", ["deit_pico", "lvvit_pico"])
def test_position_grids_are_resampled(tmp_path: Path, backbone: str) -> None:
    square = model_of(backbone, 10, 1, 32).state_dict()
    square["pos_embed"] = torch.randn(square["pos_embed"].shape, generator=torch.Generator().manual_seed(0))
    torch.save(square, tmp_path / "square.pth")
    fitted, state = load_weights(tmp_path / "square.pth", backbone=backbone, image_size=SIZE)
    expected = resample_abs_pos_embed(square["pos_embed"], new_size=[8, 6], num_prefix_tokens=1)
    assert torch.equal(state["pos_embed"], expected)
    assert list(map(str, fitted.resampled)) == ["pos_embed 8x8 -> 8x6"]
    torch.save(state, tmp_path / "own.pth")
    fitted, again = load_weights(tmp_path / "own.pth", backbone=backbone, image_size=SIZE)
    assert torch.equal(again["pos_embed"], expected)
    assert fitted.resampled == ()
    with pytest.raises(CheckpointError, match="pos_embed is 1x49x48 instead of 1x65x48"):
        load_weights(tmp_path / "own.pth", backbone=backbone, image_size=32)


def test_commands(capsys: pytest.CaptureFixture[str]) -> None:
    command = [
        sys.executable,
        "-m",
        "sparsesearch",
        "cost",
        "--backbone",
        "deit_s",
        "--json",
        "--image-size",
        "256x192",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shape = backbone_geometry("deit_s", image_size=(256, 192))
    assert json.loads(done.stdout)["dense_params"] == shape.params
    with pytest.raises(SystemExit):
        bench(["--backbone", "deit_pico", "--image-size", "axb"])
    assert "argument --image-size: invalid image size 'axb'" in capsys.readouterr().err


def test_spaces_and_data_of_a_size(pictures: Path) -> None:
    show = ["spaces", "show", "--backbone", "deit_pico", "--image-size", "32x24", "--json"]
    done = CliRunner().invoke(app, show)
    assert json.loads(done.stdout)["dense_macs"] == dense_macs(backbone_geometry("deit_pico", image_size=SIZE))
    check = ["data", "check", f"folder:{pictures}", "--backbone", "deit_pico", "--image-size", "32x24"]
    assert "2 classes, resized to 32x24" in CliRunner().invoke(app, check).stdout

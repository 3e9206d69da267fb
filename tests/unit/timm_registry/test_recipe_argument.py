"""A recipe or a saved model as `schedule`: its classes, channels and image size are those of the model by default."""

import pytest
import timm
import torch
import yaml
from timm.data import resolve_model_data_config

import sparsesearch.timm  # noqa: F401
from sparsesearch.artifacts.checkpoint import ImagePreprocessing, ModelCard, load, save
from sparsesearch.backbones.registry import create_model
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.errors import BackboneError, CheckpointError, ScheduleError
from sparsesearch.schedule import Schedule, Step
from sparsesearch.schedule.methods import FastSlow

TOKENS = Schedule.at([2, 4], [0.5, 0.25])
PATHS = Schedule(steps=(Step(stage=2, block=1, keep_ratio=0.5, reducer=FastSlow()),))


@pytest.fixture
def write(tmp_path):
    def recipe(backbone, schedule=TOKENS, *, num_classes=7, in_chans=3, image_size=64):
        path = tmp_path / "best.yaml"
        options = {"num_classes": num_classes, "in_chans": in_chans, "image_size": image_size}
        document = {"backbone": backbone, "schedule": schedule.model_dump(mode="json"), **options, "seed": 0}
        path.write_text(yaml.safe_dump(document), encoding="utf-8")
        return path

    return recipe


@pytest.mark.parametrize(
    ("name", "alias", "schedule"),
    [
        ("deit_tiny_patch16_224", "deit_t", TOKENS),
        ("convnext_atto", "convnext_atto", PATHS),
        ("swin_tiny_patch4_window7_224", "swin_t", PATHS),
        ("lvvit_pico", "lvvit_pico", TOKENS),
    ],
)
@torch.no_grad()
def test_the_recipe_determines_the_model(write, name, alias, schedule):
    model = timm.create_model(f"sparse_{name}", schedule=write(alias, schedule)).eval()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 7)
    assert model.sparsity.schedule == schedule
    assert model.sparsity.geometry.image_size == (64, 64)
    assert resolve_model_data_config(model)["input_size"] == (3, 64, 64)


def test_explicit_options_override_it(write):
    recipe = write("deit_t")
    model = timm.create_model(
        "sparse_deit_tiny_patch16_224", schedule=str(recipe), num_classes=5, in_chans=1, img_size=32
    ).eval()
    assert model(torch.zeros(2, 1, 32, 32)).shape == (2, 5)
    config = {"input_size": (3, 96, 96)}
    model = timm.create_model(
        "sparse_convnext_atto", schedule=write("convnext_atto", PATHS), pretrained_cfg_overlay=config
    )
    assert resolve_model_data_config(model)["input_size"] == (3, 96, 96)
    assert model.sparsity.geometry.image_size == (96, 96)


def test_published_weights_with_other_classes(write, tmp_path):
    """As in timm: the head of the published weights is left out."""
    published = timm.create_model("deit_tiny_patch16_224", img_size=64, num_classes=1000)
    torch.save(published.state_dict(), tmp_path / "published.pth")
    overlay = {"file": str(tmp_path / "published.pth"), "custom_load": False}
    model = timm.create_model(
        "sparse_deit_tiny_patch16_224", schedule=write("deit_t"), pretrained=True, pretrained_cfg_overlay=overlay
    )
    assert model.head.out_features == 7
    assert torch.equal(model.blocks[3].mlp.fc1.weight, published.blocks[3].mlp.fc1.weight)


@pytest.mark.parametrize("backbone", ["deit_s", "deit_small_patch16_224.fb_in1k", "resnet50", "nothing"])
def test_a_recipe_for_another_backbone_is_refused(write, backbone):
    with pytest.raises(BackboneError, match=f"best.yaml is for {backbone}, not for deit_tiny_patch16_224") as raised:
        timm.create_model("sparse_deit_tiny_patch16_224", schedule=write(backbone))
    assert "\n" not in str(raised.value)


def test_tags_of_weights_do_not_matter(write):
    name = "sparse_deit_tiny_patch16_224.fb_in1k"
    assert timm.create_model(name, schedule=write("deit_tiny_patch16_224")).num_classes == 7
    assert timm.create_model(name, schedule=write("deit_tiny_patch16_224.other_in1k")).num_classes == 7


def test_invalid_entries_of_a_recipe(write):
    with pytest.raises(ScheduleError, match=r"invalid recipe .*best.yaml: num_classes"):
        timm.create_model("sparse_deit_tiny_patch16_224", schedule=write("deit_t", num_classes="many"))


@torch.no_grad()
def test_a_saved_model_is_its_own_schedule(tmp_path):
    trained = create_model("deit_pico", num_classes=4, in_chans=3, image_size=48, seed=5)
    sparsify_(trained, TOKENS, seed=5)
    preprocessing = ImagePreprocessing(
        mean=(0.1, 0.2, 0.3), std=(0.5, 0.5, 0.5), interpolation="bilinear", crop_pct=0.9
    )
    card = ModelCard(
        backbone="deit_pico", schedule=TOKENS, num_classes=4, in_chans=3, image_size=48, macs=1,
        class_names=("a", "b", "c", "d"), preprocessing=preprocessing,
    )  # fmt: skip
    path = tmp_path / "model.safetensors"
    save(trained, path, card=card)
    model = timm.create_model("sparse_deit_pico", schedule=str(path), checkpoint_path=str(path)).eval()
    images = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model(images), load(path)(images))
    assert resolve_model_data_config(model) == resolve_model_data_config(load(path))
    assert model.pretrained_cfg["label_names"] == ("a", "b", "c", "d")
    other = timm.create_model("sparse_deit_pico", schedule=path, num_classes=9, in_chans=1)
    assert "label_names" not in other.pretrained_cfg
    assert resolve_model_data_config(other)["input_size"] == (1, 48, 48)
    assert other(images[:, :1]).shape == (2, 9)
    with pytest.raises(CheckpointError, match="cannot read the checkpoint"):
        timm.create_model("sparse_deit_pico", schedule="none.safetensors")

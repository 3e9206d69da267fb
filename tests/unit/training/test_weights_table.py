"""Weights as they are found elsewhere: each is read with these values, or refused in this one line."""

from __future__ import annotations

import math
import random
import re
from pathlib import Path

import pytest
import torch
from timm.layers import resample_abs_pos_embed
from weight_defects import DEFECTS, Tensors, ema_asked_for, outcome, random_defects, weights_of, write
from weight_reading import load, model_of, same

from sparsesearch.backbones.fit_weights import head_prefixes
from sparsesearch.errors import CheckpointError
from sparsesearch.training.foreign_weights import read_foreign_weights


def saved(path: Path, tensors: Tensors) -> Path:
    torch.save(tensors, path / "w.pth")
    return path / "w.pth"


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@pytest.mark.parametrize("name", DEFECTS)
def test_one_defect(tmp_path: Path, name: str) -> None:
    tensors, ema = weights_of(), DEFECTS[name].ema
    path, expected = write(tmp_path / "w", tensors, [name]), outcome(tensors, [name])
    if expected.refused:
        with pytest.raises(CheckpointError, match=re.escape(expected.refused[0])) as caught:
            load(path, ema=ema)
        assert "\n" not in str(caught.value)
        assert "delete" not in str(caught.value)  # the file is the user's
        return
    fitted, state = load(path, ema=ema)
    assert all(same(state[key], value) for key, value in expected.values.items())
    assert read_foreign_weights(path, ema=ema).entry == expected.entry
    assert (fitted.head, len(fitted.left_out)) == (expected.head, expected.left_out)
    assert (fitted.resampled, fitted.adapted) == ((), ())
    left = {key for key in state if key.startswith("head.")} if expected.head else set()
    absent = {key for key in state if "num_batches_tracked" in key} if name == "no counters" else set()
    assert len(fitted.comparison.loaded) == len(state) - len(left) - len(absent)
    assert fitted.describe().startswith(f"{fitted.source}, {len(fitted.comparison.loaded)} of {len(state)} tensors")
    assert (f"head left out ({expected.head})" in fitted.describe()) == (expected.head is not None)


@pytest.mark.parametrize(
    "names",
    [
        ("half", "Lightning, compiled", "DeiT's averaged", "old torch"),
        ("another head", "DDP of compiled", "one deeper"),
        ("bfloat16", "backbone", "shards"),
        ("no head", "averaged by torch", "arguments", "old torch"),
        ("nan", "DDP", "timm's averaged", "older Hugging Face folder"),
        ("missing", "two models", "objects", "truncated"),
    ],
)
def test_several_defects(tmp_path: Path, names: tuple[str, ...]) -> None:
    tensors = weights_of()
    path, expected = write(tmp_path / "w", tensors, names), outcome(tensors, names)
    if expected.refused:
        with pytest.raises(CheckpointError, match="|".join(map(re.escape, expected.refused))):
            load(path)
        return
    fitted, state = load(path)
    assert all(same(state[key], value) for key, value in expected.values.items())
    assert (fitted.head, len(fitted.left_out)) == (expected.head, expected.left_out)


@pytest.mark.parametrize("seed", range(40))
def test_random_defects(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    names = random_defects(rng, readable=rng.random() < 0.6)
    tensors, ema = weights_of(), ema_asked_for(names)
    path, expected = write(tmp_path / "w", tensors, names), outcome(tensors, names)
    if expected.refused:
        with pytest.raises(CheckpointError) as caught:
            load(path, ema=ema)
        assert "\n" not in str(caught.value)
        return
    fitted, state = load(path, ema=ema)
    assert all(same(state[key], value) for key, value in expected.values.items()), names
    assert (fitted.head, len(fitted.left_out)) == (expected.head, expected.left_out), names
    assert read_foreign_weights(path, ema=ema).entry == expected.entry


@pytest.mark.parametrize("name", ["another head", "half a head", "nan", "objects", "LFS pointer"])
def test_code_is_never_run_and_the_allowed_classes_stay_as_they_were(tmp_path: Path, name: str) -> None:
    allowed = set(torch.serialization.get_safe_globals())
    path = write(tmp_path / "w", weights_of(), [name])
    if DEFECTS[name].refused:
        with pytest.raises(CheckpointError):
            load(path)
    else:
        load(path)
    assert set(torch.serialization.get_safe_globals()) == allowed


def published_convnext(name: str) -> str:
    """The name of a parameter in ConvNeXt's repository."""
    name = re.sub(r"^stem\.", "downsample_layers.0.", name)
    name = re.sub(r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1.", name)
    name = re.sub(r"^stages\.(\d)\.blocks\.(\d+)\.", r"stages.\1.\2.", name)
    name = name.replace("conv_dw", "dwconv").replace("mlp.fc", "pwconv")
    return name.replace("head.norm.", "norm.").replace("head.fc.", "head.")


def published_swin(name: str) -> str:
    """The name of a parameter in Swin's repository."""
    name = re.sub(r"^layers\.(\d)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name)
    return name.replace("head.fc.", "head.")


@pytest.mark.parametrize(
    ("backbone", "rename", "more", "options"),
    [
        ("test_convnext", published_convnext, (), {"in_chans": 3}),
        ("swin_pico", published_swin, ("layers.0.blocks.0.attn.relative_position_index", "layers.0.attn_mask"), {}),
        ("vit_tiny_patch16_224", lambda name: name, ("mask_token",), {"in_chans": 3}),
        ("deit3_small_patch16_224", lambda name: re.sub(r"ls(\d)\.gamma", r"gamma_\1", name), (), {"in_chans": 3}),
        ("lvvit_pico", lambda name: name, (), {}),
    ],
)
def test_published_names(
    tmp_path: Path, backbone: str, rename: object, more: tuple[str, ...], options: dict[str, int]
) -> None:
    tensors = weights_of(backbone, **options)
    assert callable(rename)
    renamed = {rename(name): tensor for name, tensor in tensors.items()} | {name: torch.zeros(2) for name in more}
    fitted, state = load(saved(tmp_path, renamed), backbone=backbone, **options)
    assert state.keys() == tensors.keys()
    assert all(same(state[name], tensor) for name, tensor in tensors.items())
    assert (fitted.head, fitted.resampled) == (None, ())


@pytest.mark.parametrize("register", [False, True])
def test_dinov2(tmp_path: Path, register: bool) -> None:
    """The published names; with registers, timm adds the position of the class token to the token."""
    backbone = f"vit_small_patch14_{'reg4_' if register else ''}dinov2"
    tensors = weights_of(backbone, num_classes=0, in_chans=3, image_size=28)
    published = {**tensors, "mask_token": torch.zeros(1, 384)}
    if register:
        published["register_tokens"] = published.pop("reg_token")
        published["pos_embed"] = torch.cat([torch.full((1, 1, 384), 0.25), tensors["pos_embed"]], dim=1)
        published["cls_token"] = tensors["cls_token"] - 0.25
    fitted, state = load(saved(tmp_path, published), backbone=backbone, num_classes=10, in_chans=3, image_size=28)
    assert fitted.head == "the file has none"
    assert fitted.resampled == ()
    assert all(torch.allclose(state[name], tensor, atol=1e-6) for name, tensor in tensors.items())


@pytest.mark.parametrize("backbone", ["deit_pico", "lvvit_pico"])
@pytest.mark.parametrize(("old", "new"), [(64, 32), (32, 48)])
def test_position_grids_are_resampled(tmp_path: Path, backbone: str, old: int, new: int) -> None:
    tensors = weights_of(backbone, image_size=old)
    fitted, state = load(saved(tmp_path, tensors), backbone=backbone, image_size=new)
    expected = resample_abs_pos_embed(tensors["pos_embed"], new_size=[new // 4, new // 4], num_prefix_tokens=1)
    assert torch.equal(state["pos_embed"], expected)
    assert all(same(state[name], tensor) for name, tensor in tensors.items() if name != "pos_embed")
    assert list(map(str, fitted.resampled)) == [f"pos_embed {old // 4}x{old // 4} -> {new // 4}x{new // 4}"]
    assert f"position embedding resampled {old // 4}x{old // 4} -> {new // 4}x{new // 4}" in fitted.describe()


@pytest.mark.filterwarnings("ignore:torch.searchsorted", "ignore:Using a non-tuple sequence")
def test_bias_tables_are_resampled(tmp_path: Path) -> None:
    tensors = weights_of("swin_pico", image_size=16)  # its last grids are smaller than a window
    fitted, state = load(saved(tmp_path, tensors), backbone="swin_pico")
    changed = {name for name in tensors if state[name].shape != tensors[name].shape}
    assert changed
    assert {change.name for change in fitted.resampled} == changed
    assert all(name.endswith("relative_position_bias_table") for name in changed)
    assert "2x2 -> 4x4" in fitted.describe()


@pytest.mark.parametrize("backbone", ["deit_pico", "convnext_pico", "swin_pico", "lvvit_pico", "test_vit"])
@pytest.mark.parametrize(("old", "new"), [(3, 1), (1, 3), (3, 4)])
def test_channels_are_adapted(tmp_path: Path, backbone: str, old: int, new: int) -> None:
    """The sum over the channels of an image whose channels are equal stays as it is."""
    tensors = weights_of(backbone, in_chans=old)
    fitted, state = load(saved(tmp_path, tensors), backbone=backbone, in_chans=new)
    (change,) = fitted.adapted
    assert (change.old, change.new) == (str(old), f"{new} channels")
    found, given = state[change.name], tensors[change.name]
    assert found.shape[1] == new
    if new == 1 or old == 1:
        assert torch.allclose(found.sum(1), given.sum(1), atol=1e-5)
    else:
        assert torch.allclose(found[:, 0] * new / old, given[:, 0], atol=1e-5)
    assert f"first convolution adapted {old} -> {new} channels" in fitted.describe()


@pytest.mark.parametrize(
    ("backbone", "heads", "options"),
    [
        ("deit_pico", ("head.",), {}),
        ("convnext_pico", ("head.fc.",), {}),
        ("swin_pico", ("head.fc.",), {}),
        ("lvvit_pico", ("head.", "aux_head."), {}),
        ("test_convnext", ("head.fc.",), {"in_chans": 3}),
        ("deit_tiny_distilled_patch16_224", ("head.", "head_dist."), {"in_chans": 3}),
        ("eva02_tiny_patch14_224", ("head.",), {"in_chans": 3, "image_size": 28}),
        ("deit3_small_patch16_224", ("head.",), {"in_chans": 3}),
    ],
)
def test_only_the_classifier_is_replaced(
    tmp_path: Path, backbone: str, heads: tuple[str, ...], options: dict[str, int]
) -> None:
    """Norms before the classifier, which are in the head of a ConvNeXt, are kept."""
    tensors = weights_of(backbone, num_classes=20, **options)
    fitted, state = load(saved(tmp_path, tensors), backbone=backbone, **options)
    assert head_prefixes(model_of(backbone, 10, options.get("in_chans", 1), options.get("image_size", 32))) == heads
    assert fitted.head == "20 -> 10 classes"
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(heads)}
    assert all(same(state[name], tensor) for name, tensor in kept.items())
    replaced = [name for name in tensors if name.startswith(heads)]
    assert len(replaced) == 2 * len(heads)
    assert len(fitted.comparison.loaded) == len(tensors) - len(replaced)
    assert not any(math.isnan(float(state[name].sum())) for name in replaced)

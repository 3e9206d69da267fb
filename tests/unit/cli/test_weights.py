"""`weights check`: what would be loaded, in words and as JSON, with the exit code that says whether it can be used."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner
from weight_defects import DEFECTS, weights_of, write

from sparsesearch.cli.app import app
from sparsesearch.errors import BackboneError, CheckpointError


def check(path: Path, *options: str, backbone: str = "deit_pico") -> tuple[int, str]:
    done = CliRunner().invoke(app, ["weights", "check", str(path), "--backbone", backbone, *options])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.exit_code, done.stdout


def document(path: Path, *options: str) -> dict[str, object]:
    code, text = check(path, "--json", *options)
    found: dict[str, object] = json.loads(text.splitlines()[-1])
    assert code == (0 if found["usable"] else 2)
    return found


def test_usable_weights(tmp_path: Path) -> None:
    path = write(tmp_path / "w", weights_of(num_classes=20, in_chans=3, image_size=64), ["timm's averaged"])
    found = document(path)
    assert {key: found[key] for key in ("usable", "source", "loaded", "tensors", "num_classes", "head")} == {
        "usable": True, "source": "state_dict_ema", "loaded": 114, "tensors": 114, "num_classes": 20, "head": "loaded",
    }  # fmt: skip
    assert found["missing"] == found["unknown"] == found["adapted"] == []
    assert found["resampled"] == ["pos_embed 16x16 -> 8x8"]
    mine = document(path, "--classes", "10", "--channels", "1", "--image-size", "64", "--no-ema")
    assert (mine["source"], mine["loaded"], mine["head"], mine["resampled"]) == (
        "state_dict", 112, "20 -> 10 classes", [],
    )  # fmt: skip
    assert mine["adapted"] == ["patch_embed.layers.0.weight 3 -> 1 channels"]
    code, text = check(path, "--classes", "10")
    assert code == 0
    assert f"state_dict_ema of {path}, 112 of 114 tensors; position embedding resampled 16x16 -> 8x8; head left" in text


@pytest.mark.parametrize(
    ("defect", "key"),
    [("missing", "missing"), ("unknown", "unknown"), ("misshapen", "misshapen"), ("nan", "unusable")],
)
def test_what_does_not_fit_is_listed(tmp_path: Path, defect: str, key: str) -> None:
    path = write(tmp_path / "w", weights_of(), [defect])
    found = document(path)
    (one,) = found[key]
    assert str(one) in str(DEFECTS[defect].refused) or str(DEFECTS[defect].refused) in str(one)
    assert str(DEFECTS[defect].refused) in str(found["problem"])
    with pytest.raises(CheckpointError, match="does not fit deit_pico; weights: 1 "):
        check(path)


@pytest.mark.parametrize("defect", ["LFS pointer", "objects", "a predictor", "optimizer only", "two models"])
def test_what_cannot_be_read(tmp_path: Path, defect: str) -> None:
    found = document(write(tmp_path / "w", weights_of(), [defect]))
    assert str(DEFECTS[defect].refused) in str(found["problem"])
    assert (found["usable"], found["loaded"]) == (False, 0)


def test_unknown_backbones(tmp_path: Path) -> None:
    with pytest.raises(BackboneError, match="did you mean"):
        check(tmp_path, backbone="deits")

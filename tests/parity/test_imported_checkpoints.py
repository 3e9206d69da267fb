"""A checkpoint in the published layout, imported by the command line, gives the published code's numbers."""

import argparse

import golden_inputs
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

import sparsesearch
from sparsesearch.artifacts.checkpoint import read_card
from sparsesearch.cli.app import app

IMAGE = golden_inputs.image()


def weights_of(model):
    """The golden weights, and what a real file has beside them."""
    tensors = dict(golden_inputs.reference_weights(model))
    norms = [key for key in tensors if key.endswith("running_mean")]
    return tensors | {key.replace("running_mean", "num_batches_tracked"): torch.tensor(7) for key in norms}


def is_dense(key):
    return not any(word in key for word in ("score_predictor", "fast_path", "fastmlp"))


def command(*arguments):
    app(["import-checkpoint", *map(str, arguments)], standalone_mode=False)


def near(logits, expected):
    np.testing.assert_allclose(logits[:, :16].numpy(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("model", "backbone", "rho"),
    [
        ("deit-s",  "deit_s",  0.7),
        ("deit-s",  "deit_s",  0.5),
        ("lvvit-s", "lvvit_s", 0.7),
        ("lvvit-s", "lvvit_s", 0.5),
        ("convnext-t", "convnext_tiny", 0.7),
        ("swin-t", "swin_t", 0.5),
    ],
)  # fmt: skip
@torch.no_grad()
def test_a_training_checkpoint(tmp_path, model, backbone, rho, capsys):
    weights = weights_of(model)
    options = argparse.Namespace(lr=1e-3, model=model, drop_path=None, betas=(0.9, 0.999), crop=[224])
    torch.save(
        {
            "model": {f"module.{key}": value for key, value in weights.items()},
            "model_ema": {key: value * 0 for key, value in weights.items()},
            "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
            "scaler": {},
            "epoch": 29,
            "best": 79.3,
            "args": options,
        },
        tmp_path / "best.pth.tar",
    )
    out = tmp_path / "out.safetensors"
    command(tmp_path / "best.pth.tar", "--backbone", backbone, "--rho", rho, "--no-ema", "-o", out)
    shown = capsys.readouterr().out
    assert "1000 classes, schedule" in shown
    assert "GMACs (" in shown
    loaded = sparsesearch.load(out)
    assert not loaded.training
    near(loaded(IMAGE), golden_inputs.golden(f"golden_{model}")[f"r{rho}/logits16"])
    assert len(read_card(out).schedule.steps) == 3


@pytest.mark.parametrize(
    ("model", "backbone", "logits"),
    [
        ("deit-s",  "deit_s",  "dense_logits16"),
        ("lvvit-s", "lvvit_s", "dense_combined16"),
        ("convnext-t", "convnext_t", "dense_logits16"),
        ("swin-t", "swin_tiny_patch4_window7_224", "dense_logits16"),
    ],
)  # fmt: skip
@torch.no_grad()
def test_a_dense_state_dict(tmp_path, model, backbone, logits):
    save_file({key: value for key, value in weights_of(model).items() if is_dense(key)}, tmp_path / "dense.safetensors")
    command(tmp_path / "dense.safetensors", "--backbone", backbone, "-o", tmp_path / "out.safetensors")
    loaded = sparsesearch.load(tmp_path / "out.safetensors")
    near(loaded(IMAGE), golden_inputs.golden(f"golden_{model}")[logits])


@torch.no_grad()
def test_averaged_weights_and_a_schedule_from_a_file(tmp_path):
    weights = weights_of("deit-s")
    trained = {key: value * 0 for key, value in weights.items()}
    torch.save({"model": trained, "model_ema": weights}, tmp_path / "best.pth")
    steps = [{"block": block, "keep_ratio": 0.7**power} for power, block in enumerate((3, 6, 9), start=1)]
    (tmp_path / "steps.yaml").write_text(str({"steps": steps}), encoding="utf-8")
    out = tmp_path / "out.safetensors"
    command(tmp_path / "best.pth", "--backbone", "deit_s", "--ema", "--schedule", tmp_path / "steps.yaml", "-o", out)
    near(sparsesearch.load(out)(IMAGE), golden_inputs.golden("golden_deit-s")["r0.7/logits16"])

"""Retraining loses nothing: killed or stopped at any moment, the same command ends with the same bytes."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest
import torch

import sparsesearch
from sparsesearch.artifacts.recipe import write_recipe
from sparsesearch.study.spec import Augmentation, TrainSpec
from tests.sample_recipe import sample_recipe

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    found = sample_recipe(
        dense=TrainSpec(epochs=2, images_per_epoch=320, batch_size=32),
        training=TrainSpec(
            epochs=4,
            images_per_epoch=640,
            batch_size=32,
            augmentation=Augmentation(mixup=0.8, cutmix=1.0, label_smoothing=0.1, random_erasing=0.25),
            drop_path=0.2,
            ema_decay=0.95,
        ),
    )
    path = tmp_path_factory.mktemp("recipe") / "best.yaml"
    write_recipe(found, path)
    return path


def start(recipe, folder, *launcher, options=()):
    folder.mkdir(exist_ok=True)
    options = ["retrain", str(recipe), "-o", "model.safetensors", "--no-mlflow", "--progress", "plain", *options]
    command = [sys.executable, *launcher, "-m", "sparsesearch", *options]
    environment = os.environ | {"SPARSESEARCH_HOME": str(folder / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(process):
    out, _ = process.communicate(timeout=300)
    assert process.returncode == 0, out
    return out


def wait_for_epoch(process, folder, epoch):
    """Wait until the sparse training has a checkpoint of this epoch, or a later one."""
    checkpoints = folder / "model.safetensors.checkpoints" / "retraining"
    deadline = time.monotonic() + 240
    while not any(path.name >= f"epoch-{epoch:03d}" for path in checkpoints.glob("*.safetensors")):
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, "no checkpoint was written"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def undisturbed(recipe, tmp_path_factory):
    """The file of a training that was left alone."""
    folder = tmp_path_factory.mktemp("alone")
    finish(start(recipe, folder))
    assert not (folder / "model.safetensors.checkpoints").exists()
    return (folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize("kills", [3, pytest.param(10, marks=pytest.mark.long)])
def test_killed_trainings_go_on(recipe, undisturbed, tmp_path, kills):
    rng = random.Random(kills)
    for number in range(kills):
        process = start(recipe, tmp_path)
        wait_for_epoch(process, tmp_path, 1 + 2 * number // kills)
        time.sleep(rng.uniform(0.0, 0.3))
        process.kill()
        process.communicate(timeout=60)
    assert "goes on after epoch" in finish(start(recipe, tmp_path))
    assert (tmp_path / "model.safetensors").read_bytes() == undisturbed
    rows = [json.loads(line) for line in (tmp_path / "model.safetensors.log.jsonl").read_text().splitlines()]
    assert [(row["training"], row["epoch"]) for row in rows] == [
        *(("dense training", epoch) for epoch in (1, 2)),
        *(("retraining", epoch) for epoch in (1, 2, 3, 4)),
    ]
    assert set(rows[-1]["metrics"]) == {"train_loss", "val_top1", "average_val_top1"}


def test_a_stop_keeps_the_step_under_way(recipe, undisturbed, tmp_path):
    process = start(recipe, tmp_path)
    wait_for_epoch(process, tmp_path, 1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode == 143, out
    assert "the same command goes on with it" in out
    assert "goes on after" in finish(start(recipe, tmp_path))
    assert (tmp_path / "model.safetensors").read_bytes() == undisturbed


@pytest.mark.parametrize(
    ("launcher", "options"),
    [
        (["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"], []),
        ([], ["--workers-per-training", "2"]),
    ],
    ids=["torchrun", "ray"],
)
def test_two_processes(recipe, undisturbed, tmp_path, launcher, options):
    out = finish(start(recipe, tmp_path, *launcher, options=options))
    assert out.count("test accuracy") == 1, "the first process reports"
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == ["home", "model.safetensors", "model.safetensors.log.jsonl"]
    (tmp_path / "alone.safetensors").write_bytes(undisturbed)
    images = torch.randn(16, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        one, two = (sparsesearch.load(tmp_path / name)(images) for name in ("alone.safetensors", "model.safetensors"))
    torch.testing.assert_close(two, one, rtol=0.0, atol=1e-3)

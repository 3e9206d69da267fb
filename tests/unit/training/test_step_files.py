"""Checkpoints of a training under way."""

import os
import time

import pytest
import torch

from sparsesearch.training.step_files import StepFiles


@pytest.fixture
def files(tmp_path):
    return StepFiles(tmp_path / "steps", identity={"seed": 1})


def tensors(value):
    return {"model.weight": torch.full((3,), float(value))}


def value_of(tensors):
    return tensors["model.weight"][0].item()


def save(files, *positions):
    for value, (epoch, step) in enumerate(positions):
        files.save(tensors(value), epoch=epoch, step=step)


def test_the_last_two_are_kept(files):
    save(files, (0, 5), (0, 10), (1, 0), (1, 5))
    assert sorted(path.name for path in files.folder.iterdir()) == [
        "epoch-001-step-000000.safetensors",
        "epoch-001-step-000005.safetensors",
    ]
    assert value_of(files.newest()) == 3.0


def flipped(blob):
    return blob[:-1] + bytes([blob[-1] ^ 1])


@pytest.mark.parametrize("damage", [flipped, lambda blob: blob[: len(blob) // 2], lambda blob: b""])
def test_a_damaged_one_is_reported_and_the_one_before_it_used(tmp_path, damage):
    lines = []
    files = StepFiles(tmp_path / "steps", identity={"seed": 1}, report=lines.append)
    save(files, (0, 5), (0, 10))
    newest = max(files.folder.iterdir())
    newest.write_bytes(damage(newest.read_bytes()))
    assert value_of(files.newest()) == 0.0
    assert len(lines) == 1
    assert newest.name in lines[0]
    assert "the checkpoint before it is used" in lines[0]
    save(files, (0, 15))
    assert value_of(files.newest()) == 0.0, "the new one"
    names = sorted(path.name for path in files.folder.glob("*.safetensors"))
    assert names == ["epoch-000-step-000005.safetensors", "epoch-000-step-000015.safetensors"], "two that are whole"


def test_those_of_a_longer_training_before_it_do_not_displace_new_ones(files):
    save(files, (7, 0), (8, 0))
    other = StepFiles(files.folder, identity={"seed": 2})
    save(other, (0, 5), (0, 10))
    assert value_of(other.newest()) == 1.0
    assert len(list(files.folder.iterdir())) == 2


def test_one_that_was_never_finished_is_deleted_later(files):
    files.folder.mkdir()
    left = files.folder / "epoch-000-step-000010.safetensors.77.part"
    left.write_bytes(b"half")
    os.utime(left, (time.time() - 90_000,) * 2)
    assert files.newest() == {}
    save(files, (0, 15))
    assert not list(files.folder.glob("*.part"))


def test_only_the_user_may_read_them(files):
    save(files, (0, 5))
    assert files.folder.stat().st_mode & 0o777 == 0o700
    assert [path.stat().st_mode & 0o777 for path in files.folder.iterdir()] == [0o600]


def test_those_of_another_training_are_not_used(files, tmp_path):
    save(files, (0, 5))
    assert StepFiles(files.folder, identity={"seed": 2}).newest() == {}


def test_older_ones_than_another_checkpoint_are_not_used(files):
    save(files, (2, 5))
    assert files.newest(after=(2, 0))
    assert files.newest(after=(3, 0)) == {}


def test_time(tmp_path):
    now = [0.0]
    files = StepFiles(tmp_path, identity={}, every_s=60.0, clock=lambda: now[0])
    now[0] = 59.0
    assert not files.is_due
    now[0] = 60.0
    assert files.is_due
    save(files, (0, 1))
    assert not files.is_due


def test_nothing_is_there_at_first(files):
    assert files.newest() == {}
    files.clear()

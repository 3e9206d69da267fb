"""Trainings that studies share are what was recorded, or are repeated."""

import json
import struct

import pytest
import torch
from safetensors.torch import save_file

from sparsesearch.errors import CheckpointError
from sparsesearch.training.cache import TrainingCache, difference, machine_kind
from sparsesearch.training.checkpoints import write_tensors

CPU = torch.device("cpu")
TENSORS = {"weight": torch.tensor([[-2.0, -1.0], [1.0, 2.0]])}
METRICS = {"val_top1": 1 / 3, "val_loss": 0.7, "val_images": 96.0}
HISTORY = [(1, {"val_top1": 0.1 + 0.2, "val_images": 96.0}), (2, {**METRICS, "train_loss": 0.5})]


def measured(tensors):
    """As if the accuracy followed from the weights."""
    return {**METRICS, "val_top1": float(tensors["weight"].mean()) + 1 / 3}


@pytest.fixture
def lines():
    return []


@pytest.fixture
def cache(tmp_path, lines):
    return TrainingCache(tmp_path / "cache", report=lines.append)


def find(cache, key="dense-1", measure=measured):
    return cache.find(key, measure=measure, device=CPU)


def keep(cache, key="dense-1", tensors=TENSORS, history=HISTORY):
    cache.keep(key, tensors, history=history, device=CPU)


def test_what_was_kept_is_found(cache, lines):
    keep(cache)
    found = find(cache)
    assert torch.equal(found.tensors["weight"], TENSORS["weight"])
    assert found.history == HISTORY
    assert find(cache, "dense-2") is None
    assert lines == []


def test_nothing_is_made_before_it_is_needed(cache, tmp_path):
    assert find(cache) is None
    assert not (tmp_path / "cache").exists()


def broken(path):
    yield b""
    yield b"hello"
    yield struct.pack("<Q", 2) + b"{}"  # readable, but without a history
    for document in ({"key": "dense-1", "history": []}, {"key": "dense-2", "history": HISTORY}, {"history": HISTORY}):
        write_tensors(path, TENSORS, metadata=document)
        yield path.read_bytes()
    yield path.read_bytes()[:-1]
    yield path.read_bytes()[:-1] + bytes([path.read_bytes()[-1] ^ 64])
    save_file(TENSORS, path, metadata={"sparsesearch": json.dumps({"key": "dense-1", "history": "long"})})
    yield path.read_bytes()


def test_a_broken_file_is_named_and_set_aside(cache, lines, tmp_path):
    path = tmp_path / "cache" / "dense-1.safetensors"
    path.parent.mkdir()
    blobs = list(broken(path))
    for number, blob in enumerate(blobs):
        path.write_bytes(blob)
        assert find(cache) is None
        assert not path.exists()
        assert path.with_name("dense-1.safetensors.damaged").read_bytes() == blob
        assert len(lines) == number + 1
        assert "dense-1" in lines[-1]
        assert "set aside as dense-1.safetensors.damaged, and the training is repeated" in lines[-1]
        assert "\n" not in lines[-1]


def test_an_entry_in_place_of_another_is_not_taken(cache, lines, tmp_path):
    keep(cache)
    keep(cache, "dense-2", {"weight": torch.zeros(2, 2)})
    (tmp_path / "cache" / "dense-1.safetensors").rename(tmp_path / "cache" / "dense-2.safetensors")
    assert find(cache, "dense-2") is None
    assert "another key" in lines[0]


def test_weights_that_do_not_measure_as_recorded_are_not_believed(cache, lines):
    keep(cache, tensors={"weight": torch.ones(2, 2)})
    assert find(cache) is None
    assert "val_top1 is 1.3333, and 0.3333 was recorded" in lines[0]
    keep(cache, tensors={"weight": torch.full((2, 2), float("nan"))})
    assert find(cache) is None
    assert "nan" in lines[1]


def test_weights_that_do_not_fit_the_model_are_not_believed(cache, lines):
    def refuse(tensors):
        raise CheckpointError("head.weight is 5 x 64 instead of 10 x 64")

    keep(cache)
    assert find(cache, measure=refuse) is None
    assert lines[0].startswith("head.weight is 5 x 64 instead of 10 x 64; it was set aside")


@pytest.mark.parametrize(
    ("changes", "is_same_cpu", "agrees"),
    [
        ({}, True, True),
        ({"val_top1": 1 / 3 + 1 / 96}, True, False),
        ({"val_loss": 0.7001}, True, False),
        ({"val_top1": 1 / 3 + 1 / 96, "val_loss": 0.7001}, False, True),
        ({"val_top1": 1 / 3 + 4 / 96}, False, False),
        ({"val_loss": 0.75}, False, False),
        ({"val_top1": 0.36, "val_loss": 0.9, "val_images": 960.0}, True, True),
        ({"val_top1": 0.95, "val_images": 960.0}, True, False),
        ({"val_loss": float("nan")}, False, False),
    ],
)
def test_what_agrees(changes, is_same_cpu, agrees):
    assert (difference(METRICS, {**METRICS, **changes}, is_same_cpu=is_same_cpu) is None) is agrees


def test_the_machine_is_named():
    assert machine_kind(CPU) == machine_kind(CPU)
    assert machine_kind(CPU).startswith("cpu ")

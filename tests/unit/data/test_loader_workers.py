"""How many processes decode images, unless a study says so."""

import os
from collections import namedtuple

import pytest

from sparsesearch.data import loader_workers
from sparsesearch.data.loader_workers import limit_cores, num_loader_workers, shared_memory_slots

Usage = namedtuple("Usage", "free")


@pytest.fixture(autouse=True)
def _twelve_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(12)))
    monkeypatch.setattr(loader_workers, "_given", None)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


@pytest.mark.parametrize(
    ("processes", "given", "asked", "expected"),
    [
        (None, None, None, 11),
        ("4", None, None, 2),
        ("12", None, None, 1),
        ("24", None, None, 1),
        (None, 3, None, 2),
        (None, 1, None, 1),
        (None, 64, None, 11),
        ("4", None, 7, 7),
        (None, 3, 0, 0),
    ],
)
def test_cores_less_one(monkeypatch, processes, given, asked, expected):
    if processes is not None:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", processes)
    if given is not None:
        limit_cores(given)
    assert num_loader_workers(asked) == expected


def test_too_little_shared_memory_is_said(monkeypatch, caplog):
    monkeypatch.setattr(loader_workers.shutil, "disk_usage", lambda _: Usage(64_000_000))
    assert shared_memory_slots(2_400_000) == 13
    assert not caplog.records
    assert shared_memory_slots(20_000_000) == 1
    assert "docker run --shm-size" in caplog.text

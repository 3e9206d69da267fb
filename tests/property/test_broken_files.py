"""Files that are broken in any way are read as what they are, or refused in one line: no traceback, and no hang."""

from __future__ import annotations

import json
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch
import yaml
from broken import changed_bytes, changed_values, dumped, edits_of_bytes, edits_of_values
from geometries import DEIT_PICO
from hypothesis import given, settings
from hypothesis import strategies as st
from latency_samples import made_up_fit, made_up_profile
from sample_recipe import sample_recipe

from sparsesearch.app.study_request import overridden, read_request
from sparsesearch.app.validate import validate
from sparsesearch.artifacts.checkpoint import ModelCard, read_card
from sparsesearch.artifacts.recipe import is_edited, read_recipe, write_recipe
from sparsesearch.artifacts.schedule_file import read_schedule
from sparsesearch.errors import UserInputError
from sparsesearch.latency.profile.document import read_profile, write_profile
from sparsesearch.schedule import Schedule
from sparsesearch.space.definition import load_space
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.checkpoints import read_tensors, write_tensors
from sparsesearch.training.foreign_weights import read_foreign_weights
from sparsesearch.training.step_files import StepFiles

QUICK, LONG = 200, 10_000
"""Examples of each kind: in the quick run, and in the long one, where they are 100,000 together."""

LIMIT_S = 10.0
LONGEST_LINE = 2000
FOLDER = tempfile.TemporaryDirectory(prefix="sparsesearch-broken-")


@contextmanager
def no_hang() -> Iterator[None]:
    def end(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"no answer within {LIMIT_S:g} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def check(read: Callable[[Path], object], name: str, blob: bytes) -> None:
    """Read a file: it may be refused by one readable line."""
    path = Path(FOLDER.name) / name
    path.write_bytes(blob)
    with no_hang():
        try:
            read(path)
        except UserInputError as error:
            text = str(error)
            assert text.strip()
            assert "\n" not in text
            assert len(text) < LONGEST_LINE, text
            assert not any(character < " " for character in text)


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Attributes:
        name: Name of a file.
        read: Reads it, as commands do.
        written: A whole one.
        document: The same as plain data; None if it is binary.
    """

    name: str
    read: Callable[[Path], object]
    written: bytes
    document: Any = None


def _read_study(path: Path) -> object:
    return validate(overridden(read_request(path), {}))


def _read_schedule(path: Path) -> object:
    return read_schedule(path).key(DEIT_PICO)


def _read_recipe(path: Path) -> object:
    is_edited(path)
    return read_recipe(path).schedule.key(DEIT_PICO)


def _read_step_files(path: Path) -> object:
    """The files of a training under way, of which the newest is broken: the one before it is used."""
    folder = path.with_name("steps")
    folder.mkdir(exist_ok=True)
    files = StepFiles(folder, identity={"seed": 1}, report=lambda line: None)
    if not (folder / "epoch-000-step-000005.safetensors").is_file():
        files.save({"a": torch.zeros(2)}, epoch=0, step=5)
    (folder / "epoch-000-step-000010.safetensors").write_bytes(path.read_bytes())
    found = files.newest()
    assert set(found) == {"a"}
    return found


@cache
def kinds() -> dict[str, Kind]:
    """All kinds of files, each with a whole one."""
    here = Path(FOLDER.name)
    study = {
        "name": "s",
        "backbone": "deit_pico",
        "budget": {"unit": "fraction", "low": 0.5, "high": 0.8},
        "seed": 3,
        "data": {"source": "digits", "num_val_images": 240},
        "space": {"max_predictors": 2, "min_keep_ratio": 0.3},
        "fidelity": {"evaluations": 4, "dense": {"epochs": 2}, "finetune": {"epochs": 1, "lr": 0.001}},
        "resources": {"cpus_per_trial": 1},
    }
    schedule = {
        "steps": [{"block": 3, "keep_ratio": 0.7}, {"block": 6, "keep_ratio": 0.5, "reducer": {"kind": "merge"}}]
    }
    space = {"blocks": [1, 3, 5], "max_predictors": 2, "scorers": [{"kind": "norm"}, {"kind": "random", "seed": 1}]}
    write_recipe(sample_recipe(training=TrainSpec(epochs=2)), here / "recipe.yaml")
    write_profile(made_up_profile(DEIT_PICO, made_up_fit(DEIT_PICO)), here / "profile.json")
    card = ModelCard(backbone="deit_pico", schedule=Schedule(), num_classes=3, in_chans=1, image_size=32, macs=1)
    tensors = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(3, dtype=torch.int64)}
    write_tensors(here / "model.safetensors", tensors, metadata=card.model_dump(mode="json"))
    pickled = BytesIO()
    torch.save({"model": tensors, "epoch": 3}, pickled)
    profile = json.loads((here / "profile.json").read_text())
    del profile["timings"][4:]  # most of it, and of the time that each example takes
    model = (here / "model.safetensors").read_bytes()
    found = {
        "study": Kind("study.yaml", _read_study, dumped(study, as_json=False), study),
        "schedule": Kind("schedule.yaml", _read_schedule, dumped(schedule, as_json=False), schedule),
        "space": Kind("space.yaml", lambda path: load_space(str(path)), dumped(space, as_json=False), space),
        "recipe": Kind(
            "best.yaml",
            _read_recipe,
            (here / "recipe.yaml").read_bytes(),
            yaml.safe_load((here / "recipe.yaml").read_text()),
        ),
        "profile": Kind(
            "a.json",
            read_profile,
            (here / "profile.json").read_bytes(),
            {key: value for key, value in profile.items() if key != "sha256"},
        ),
        "checkpoint": Kind("a.safetensors", read_tensors, model),
        "model": Kind("b.safetensors", read_card, model),
        "step files": Kind("c.safetensors", _read_step_files, model),
        "weights": Kind("d.safetensors", read_foreign_weights, model),
        "pickled weights": Kind("e.pth", read_foreign_weights, pickled.getvalue()),
    }
    for kind in found.values():  # a whole one is read
        (here / kind.name).write_bytes(kind.written)
        if kind.name != "c.safetensors":
            kind.read(here / kind.name)
    return found


KINDS = [
    "study",
    "schedule",
    "space",
    "recipe",
    "profile",
    "checkpoint",
    "model",
    "step files",
    "weights",
    "pickled weights",
]


@st.composite
def broken(draw: st.DrawFn, kind: str) -> bytes:
    """A file with changed values, with changed bytes, or with anything in it."""
    found = kinds()[kind]
    how = draw(st.integers(0, 9))
    if how == 0:
        return draw(st.one_of(st.binary(max_size=200), st.text(max_size=200).map(_encoded)))
    if how <= 6 and found.document is not None:
        document = changed_values(found.document, draw(edits_of_values()))
        return dumped(document, as_json=kind == "profile" or draw(st.booleans()))
    return changed_bytes(found.written, draw(edits_of_bytes()))


def _encoded(text: str) -> bytes:
    return text.encode("utf-8", "replace")


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=QUICK)
@given(data=st.data())
def test_broken_files(kind: str, data: st.DataObject) -> None:
    check(kinds()[kind].read, kinds()[kind].name, data.draw(broken(kind)))


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=LONG)
@given(data=st.data())
def test_100_000_broken_files(kind: str, data: st.DataObject) -> None:
    check(kinds()[kind].read, kinds()[kind].name, data.draw(broken(kind)))

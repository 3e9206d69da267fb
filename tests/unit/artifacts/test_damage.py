"""Every kind of stored file, damaged in every way: found, or impossible to misread."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from geometries import DEIT_PICO
from latency_samples import made_up_fit, made_up_profile
from sample_study import run_sample, sample_spec
from torch import Tensor, nn

from sparsesearch.analysis.view import StudyView
from sparsesearch.artifacts.checkpoint import ModelCard, load, save
from sparsesearch.artifacts.from_study import make_recipe
from sparsesearch.artifacts.recipe import is_edited, read_recipe, write_recipe
from sparsesearch.backbones.registry import create_model
from sparsesearch.errors import UserInputError
from sparsesearch.evaluate.work_files import WorkFiles
from sparsesearch.latency.profile.document import read_profile, write_profile
from sparsesearch.schedule import Schedule
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import open_store
from sparsesearch.study.spec import TrainSpec
from sparsesearch.training.arithmetic import Arithmetic
from sparsesearch.training.cache import TrainingCache
from sparsesearch.training.checkpoints import CheckpointFolder
from sparsesearch.training.loop import TrainingRun

CPU = torch.device("cpu")
METRICS = {"val_top1": 0.5, "val_loss": 1.0, "val_images": 10.0}
NAMED, MISSING, READ = "refused, and named", "treated as missing, and named", "read as what it is"

Check = Callable[[], str]


def flipped(blob: bytes, other: bytes) -> bytes:
    half = len(blob) // 2
    return blob[:half] + bytes([blob[half] ^ 1]) + blob[half + 1 :]


DAMAGES: dict[str, Callable[[bytes, bytes], bytes]] = {
    "flipped": flipped,
    "truncated": lambda blob, other: blob[: len(blob) // 2],
    "swapped": lambda blob, other: other,
    "emptied": lambda blob, other: b"",
}


def refused(read: Callable[[], object], path: Path) -> str:
    """What reading a damaged file comes to."""
    try:
        read()
    except UserInputError as error:
        message = str(error)
    else:
        return READ
    assert path.name in message
    assert "\n" not in message
    assert "delete" not in message
    return NAMED


def training_state(seed: int) -> dict[str, Tensor]:
    """Model and optimizer after a step of a tiny training."""
    torch.manual_seed(seed)
    model = nn.Linear(8, 4)
    run = TrainingRun(model, TrainSpec(epochs=2), steps_per_epoch=1, arithmetic=Arithmetic(CPU, torch.float32))
    model(torch.ones(2, 8)).sum().backward()
    run._optimizer.step()
    return run.state()


def checkpoint(name: str, tmp_path: Path) -> tuple[Path, bytes, Check]:
    """A checkpoint of a study; the other is that of another study."""
    folder, others = (CheckpointFolder(tmp_path, "study", uid * 32) for uid in "ab")
    ref = folder.save(name, training_state(0), step=1, metadata={"kind": name, "step": 1})
    other = others.save(name, training_state(1), step=1, metadata={"kind": name, "step": 1})
    path = folder.path_of(ref)

    def check() -> str:
        found = refused(lambda: folder.load(ref), path)
        assert found == READ or path.with_name(f"{path.name}.damaged").is_file()
        return found

    return path, others.path_of(other).read_bytes(), check


def cached(tmp_path: Path) -> tuple[Path, bytes, Check]:
    """A cached training; the other is another entry."""
    lines: list[str] = []
    cache = TrainingCache(tmp_path, report=lines.append)
    for key, seed in (("dense-a", 0), ("dense-b", 1)):
        cache.keep(key, training_state(seed), history=[(1, METRICS)], device=CPU)

    def check() -> str:
        found = cache.find("dense-a", measure=lambda _: METRICS, device=CPU)
        if found is not None:
            return READ
        assert "dense-a" in lines[0]
        assert (tmp_path / "dense-a.safetensors.damaged").exists()
        return MISSING

    return tmp_path / "dense-a.safetensors", (tmp_path / "dense-b.safetensors").read_bytes(), check


def exported(tmp_path: Path) -> tuple[Path, bytes, Check]:
    """A model for `sparsesearch.load`; the other has other classes."""
    for name, classes in (("a", 3), ("b", 5)):
        model = create_model("deit_pico", num_classes=classes, in_chans=1, image_size=32)
        card = ModelCard(
            backbone="deit_pico", schedule=Schedule(), num_classes=classes, in_chans=1, image_size=32, macs=1
        )
        save(model, tmp_path / f"{name}.safetensors", card=card)
    path = tmp_path / "a.safetensors"
    return path, (tmp_path / "b.safetensors").read_bytes(), lambda: refused(lambda: load(path), path)


def profile(tmp_path: Path) -> tuple[Path, bytes, Check]:
    """A latency profile; the other was measured with other noise."""
    for name, noise in (("a", 0.0), ("b", 0.05)):
        write_profile(made_up_profile(DEIT_PICO, made_up_fit(DEIT_PICO), noise=noise), tmp_path / f"{name}.json")
    path = tmp_path / "a.json"
    return path, (tmp_path / "b.json").read_bytes(), lambda: refused(lambda: read_profile(path), path)


def recipe(tmp_path: Path) -> tuple[Path, bytes, Check]:
    """A recipe, which people may edit; the other is of another schedule."""
    store = MemoryStore()
    run_sample(store, sample_spec())
    view = StudyView.of(store, "sample")
    for name, trial in (("a", view.front.points[0]), ("b", view.front.points[-1])):
        write_recipe(make_recipe(view.spec, view.front, trial), tmp_path / f"{name}.yaml")
    path = tmp_path / "a.yaml"

    def check() -> str:
        found = refused(lambda: read_recipe(path), path)
        return NAMED if found == READ and is_edited(path) else found

    return path, (tmp_path / "b.yaml").read_bytes(), check


def progress(tmp_path: Path) -> tuple[Path, bytes, Check]:
    """The progress of a training under way, which is only shown."""
    with WorkFiles(tmp_path).bar("training", 10, trial=1) as bar:
        bar.advance()
        path = tmp_path / "00001.json"
        blob = path.read_bytes()
    path.write_bytes(blob)
    return path, b"{}", lambda: READ if WorkFiles(tmp_path).read() else MISSING


def database(tmp_path: Path) -> tuple[Path, bytes, Check]:
    """A database; the other is that of another program."""
    path = tmp_path / "studies.db"
    store = open_store(f"sqlite:///{path}")
    run_sample(store, sample_spec())
    store.close()
    other = tmp_path / "other.db"
    other.write_text("no database at all, but long enough to be looked at " * 20)

    def check() -> str:
        return refused(lambda: open_store(f"sqlite:///{path}").trials("sample"), path)

    return path, other.read_bytes(), check


KINDS: dict[str, Callable[[Path], tuple[Path, bytes, Check]]] = {
    "dense weights": lambda tmp_path: checkpoint("dense", tmp_path),
    "supernet weights": lambda tmp_path: checkpoint("supernet_training", tmp_path),
    "fine-tuned weights": lambda tmp_path: checkpoint("trial-00003", tmp_path),
    "checkpoint of an epoch": lambda tmp_path: checkpoint("trial-00003-epoch-001", tmp_path),
    "cached training": cached,
    "exported model": exported,
    "latency profile": profile,
    "recipe": recipe,
    "progress": progress,
    "database": database,
}
EXPECTED = {
    **{(kind, damage): NAMED for kind in KINDS for damage in DAMAGES},
    **{("cached training", damage): MISSING for damage in DAMAGES},
    **{("progress", damage): MISSING for damage in DAMAGES},
    # A whole file of the same kind in a place that the user chooses: it says itself what it is.
    **{(kind, "swapped"): READ for kind in ("exported model", "latency profile", "recipe")},
    # SQLite has no checksums: a flipped bit is found if it makes a page or a document unreadable.
    **{("database", "flipped"): None},
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_found(tmp_path: Path, kind: str, damage: str) -> None:
    path, other, check = KINDS[kind](tmp_path)
    path.write_bytes(DAMAGES[damage](path.read_bytes(), other))
    expected = EXPECTED[kind, damage]
    if expected is not None:
        assert check() == expected


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_whole_is_read(tmp_path: Path, kind: str) -> None:
    assert KINDS[kind](tmp_path)[2]() == READ

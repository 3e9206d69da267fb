"""The last two checkpoints of a training under way are kept, and a damaged one falls back to the one before it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from sparsesearch.errors import InfrastructureError
from sparsesearch.evaluate.trial_checkpoints import TrialCheckpoints, prefix_of
from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.progress import Silent
from sparsesearch.study.trial import CheckpointRef, Fidelity, Trial
from sparsesearch.training.checkpoints import CheckpointFolder, epoch_name


class Lines(Silent):
    def __init__(self) -> None:
        self.lines: list[str] = []

    def line(self, text: str) -> None:
        self.lines.append(text)


class Study:
    """The checkpoints of a trial in a study that goes on in another process after each step."""

    def __init__(self, root: Path, trial: Trial) -> None:
        self.trial = trial
        self.progress = Lines()
        self.folder = CheckpointFolder(root, "study", "a" * 32)
        self.checkpoints = TrialCheckpoints(self.folder, study="study", progress=self.progress)

    def within_epoch(self, epoch: int, step: int) -> None:
        self.checkpoints.between_epochs(self.trial).save(tensors(epoch + step / 100), epoch=epoch, step=step)

    def after_epoch(self, epoch: int) -> Path:
        name = epoch_name(prefix_of(self.trial), epoch)
        (event,) = self.checkpoints.replace(self.trial, tensors(epoch), step=epoch, name=name, whole=True)
        ref = event.checkpoint
        assert isinstance(ref, CheckpointRef)
        self.trial = self.trial.model_copy(update={"checkpoint": ref})
        return self.folder.path_of(ref)

    def resumed(self) -> float | None:
        """Where the training goes on."""
        found = self.checkpoints.latest(self.trial, label="fine-tuning")
        position = None if found is None else value(found[0])
        after = (0, 0) if position is None else (int(position), 0)
        newest = self.checkpoints.between_epochs(self.trial).newest(after=after)
        return value(newest) if newest else position


def tensors(position: float) -> dict[str, Tensor]:
    return {"weight": torch.full((5,), position, dtype=torch.float64)}


def value(found: dict[str, Tensor]) -> float:
    return float(found["weight"][0])


@pytest.fixture
def study(tmp_path: Path, tiny: BackboneGeometry, make_trial) -> Study:
    return Study(tmp_path, make_trial(tiny, number=3, schedule=Schedule(), top1=None, fidelity=Fidelity.FINETUNE))


@pytest.fixture(params=["flipped", "truncated", "emptied", "deleted"])
def damage(request: pytest.FixtureRequest):
    def damaged(path: Path) -> None:
        blob = path.read_bytes()
        half = len(blob) // 2
        if request.param == "deleted":
            path.unlink()
            return
        kinds = {"flipped": blob[:half] + bytes([blob[half] ^ 8]) + blob[half + 1 :], "truncated": blob[:half]}
        path.write_bytes(kinds.get(request.param, b""))

    return damaged


def test_the_last_two_of_epochs(study: Study, damage) -> None:
    study.after_epoch(1)
    study.after_epoch(2)
    damage(study.after_epoch(3))
    assert study.resumed() == 2.0
    assert "going on after epoch 2 of fine-tuning" in study.progress.lines[0]


def test_the_first_of_an_epoch_falls_back_to_one_within_it(study: Study, damage) -> None:
    study.within_epoch(0, 20)
    study.within_epoch(0, 40)
    damage(study.after_epoch(1))
    assert study.resumed() == 0.4
    assert "going on within the first epoch of fine-tuning" in study.progress.lines[0]
    study.within_epoch(0, 60)
    study.after_epoch(1)
    study.within_epoch(1, 20)
    assert study.resumed() == 1.2
    study.after_epoch(2)
    assert not study.checkpoints.between_epochs(study.trial).folder.exists(), "epochs 1 and 2 are the last two"


def test_one_within_an_epoch_falls_back_to_the_one_before_it(study: Study, damage) -> None:
    study.after_epoch(1)
    study.within_epoch(1, 20)
    study.within_epoch(1, 40)
    damage(study.checkpoints.between_epochs(study.trial).folder / "epoch-001-step-000040.safetensors")
    assert study.resumed() == 1.2


def test_one_within_an_epoch_falls_back_to_that_of_the_epoch(study: Study, damage) -> None:
    study.after_epoch(1)
    study.within_epoch(1, 20)
    damage(study.checkpoints.between_epochs(study.trial).folder / "epoch-001-step-000020.safetensors")
    assert study.resumed() == 1.0


def test_a_training_begins_again_if_all_are_damaged_but_not_if_their_disk_is_gone(study: Study, damage) -> None:
    for path in (study.after_epoch(1), study.after_epoch(2)):
        damage(path)
    assert study.resumed() is None
    assert "restarting fine-tuning" in study.progress.lines[-1]
    study.folder.folder.rename(study.folder.folder.with_name("elsewhere"))
    with pytest.raises(InfrastructureError, match="mount it again"):
        study.resumed()

"""What moved is used from its new place, if it is the same."""

import shutil

import pytest
import torch
from PIL import Image

from sparsesearch.app.move_study import move_study
from sparsesearch.data.inputs import open_task
from sparsesearch.errors import CheckpointError, DataError, SpecError
from sparsesearch.schedule import Schedule
from sparsesearch.store.memory import MemoryStore
from sparsesearch.study.events import Checkpointed
from sparsesearch.study.machine import Machine
from sparsesearch.study.progress import Silent
from sparsesearch.study.trial import Cost, Fidelity, NewTrial, Origin
from sparsesearch.training.checkpoints import CheckpointFolder


class Lines(Silent):
    def __init__(self):
        self.lines = []

    def line(self, text):
        self.lines.append(text)


@pytest.fixture
def images(tmp_path):
    """Two classes of eight images."""
    for name in ("cat", "dog"):
        (tmp_path / "data" / name).mkdir(parents=True)
        for number in range(8):
            Image.new("RGB", (40, 40), (number * 30, 80, 20)).save(tmp_path / "data" / name / f"{number}.png")
    return tmp_path / "data"


@pytest.fixture
def store():
    return MemoryStore()


@pytest.fixture
def writer(spec, store, images):
    """A study on a folder of images, resolved as far as moving needs it."""
    data = spec.data.model_copy(update={"source": f"folder:{images}", "image_size": 32, "num_val_images": None})
    fingerprint = open_task(data, backbone=spec.backbone).fingerprint
    resolved = spec.resolved.model_copy(update={"data_fingerprint": fingerprint})
    writer = store.create_study(spec.model_copy(update={"data": data, "resolved": resolved}))
    yield writer
    writer.close()


def test_nothing_moves_without_a_request(writer):
    before = writer.spec
    move_study(writer, progress=Silent())
    assert writer.spec is before


def test_moved_data_is_taken_and_stored(writer, store, images, tmp_path):
    images.rename(tmp_path / "elsewhere")
    move_study(writer, data=f"folder:{tmp_path / 'elsewhere'}", progress=Silent())
    assert store.spec(writer.spec.name).data.source == f"folder:{tmp_path / 'elsewhere'}"
    assert store.spec(writer.spec.name).data.image_size == 32


def test_other_data_is_not(writer, store, images, tmp_path):
    shutil.copytree(images, tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "cat" / "0.png").unlink()
    before = store.spec(writer.spec.name)
    with pytest.raises(DataError, match="is not the data of study 'tiny': its content differs"):
        move_study(writer, data=f"folder:{tmp_path / 'elsewhere'}", device="cpu", progress=Silent())
    assert store.spec(writer.spec.name) == before


def test_another_device_is_said(writer, store):
    machine = Machine(device="NVIDIA H200", cores=8, python="3.12", sparsesearch="0", torch="2", timm="1")
    writer.resolve(
        writer.spec.model_copy(update={"resolved": writer.spec.resolved.model_copy(update={"machine": machine})})
    )
    progress = Lines()
    move_study(writer, device="cpu", progress=progress)
    (line,) = progress.lines
    assert "began on NVIDIA H200 and goes on on" in line
    assert store.spec(writer.spec.name).device == "cpu"


def test_a_device_that_is_not_there_is_refused(writer):
    with pytest.raises(SpecError):
        move_study(writer, device="tpu", progress=Silent())


class TestStorage:
    @pytest.fixture
    def saved(self, writer, tmp_path):
        """A dense training with one checkpoint; returns the storage."""
        trial = writer.add_trial(
            NewTrial(
                number=0,
                fidelity=Fidelity.DENSE,
                origin=Origin.REFERENCE,
                label="dense",
                schedule=Schedule(),
                key="k",
                cost=Cost(macs=1, params=1),
                seed=0,
            )
        )
        trial = writer.claim(trial.number)
        folder = CheckpointFolder(tmp_path / "old", writer.spec.name, writer.uid)
        ref = folder.save("trial-00000-epoch-001", {"weight": torch.ones(2)}, step=1, metadata={})
        writer.record(Checkpointed(trial=0, attempt=trial.attempt, checkpoint=ref))
        return tmp_path / "old"

    def test_it_is_verified_and_stored(self, writer, store, saved, tmp_path):
        saved.rename(tmp_path / "new")
        move_study(writer, storage=str(tmp_path / "new"), progress=Silent())
        assert store.spec(writer.spec.name).storage == str(tmp_path / "new")

    @pytest.mark.parametrize("damage", ["gone", "flipped"])
    def test_a_folder_without_the_checkpoints_is_refused(self, writer, store, saved, tmp_path, damage):
        saved.rename(tmp_path / "new")
        (file,) = (tmp_path / "new").rglob("*.safetensors")
        blob = file.read_bytes()
        file.write_bytes(blob[:-1] + bytes([blob[-1] ^ 1]))
        where = tmp_path / ("new" if damage == "flipped" else "nowhere")
        with pytest.raises(CheckpointError, match=rf"{where} is not the storage of study 'tiny'.*leave --storage out"):
            move_study(writer, storage=str(where), progress=Silent())
        assert store.spec(writer.spec.name).storage is None
        assert file.is_file(), "nothing is set aside in a folder that is only looked at"

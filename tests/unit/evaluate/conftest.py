from collections.abc import Iterator

import pytest
import torch

from sparsesearch.backbones.registry import PICO
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import task_geometry
from sparsesearch.study.spec import Budget, DataSpec, FidelitySpec, Resolved, StudySpec, TrainSpec
from sparsesearch.training.kinds import Setting
from sparsesearch.training.loop import Arithmetic

FLOAT32 = Arithmetic(torch.device("cpu"), torch.float32)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def task() -> DigitsTask:
    return DigitsTask(image_size=32, in_chans=1, num_val_images=96)


@pytest.fixture(scope="session")
def setting(task: DigitsTask) -> Setting:
    return Setting(PICO, task_geometry(PICO, task), task, FLOAT32, seed=0)


@pytest.fixture(scope="session")
def spec(task: DigitsTask, setting: Setting) -> StudySpec:
    """A prepared study of a few seconds."""
    short = TrainSpec(epochs=1, images_per_epoch=64, batch_size=32)
    return StudySpec(
        name="tiny",
        backbone=PICO,
        budget=Budget(high=0.4),
        data=DataSpec(num_val_images=96),
        weights="scratch",
        space={"blocks": [1, 3, 5], "max_predictors": 2},
        seed=1,
        fidelity=FidelitySpec(
            evaluations=3,
            finalists=1,
            dense=short.model_copy(update={"epochs": 2}),
            elastic_training=short,
            finetune=short,
        ),
        baselines=False,
        precision="float32",
        device="cpu",
        dispatcher="inline",
        resolved=Resolved(
            geometry=setting.geometry,
            num_classes=task.num_classes,
            in_chans=task.in_chans,
            data_fingerprint=task.fingerprint,
        ),
    )

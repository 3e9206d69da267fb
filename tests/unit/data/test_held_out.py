"""Retraining uses all training images, also those that the search held out for its validation."""

import numpy as np
import pytest
from PIL import Image

from sparsesearch.data.task import Epoch
from sparsesearch.data.test_split import open_test
from sparsesearch.study.spec import DataSpec


@pytest.fixture
def opened(tmp_path):
    """The task of folders with a given number of images of one brightness each."""

    def made(**counts):
        brightness = iter(range(0, 256, 3))
        for split, count in counts.items():
            for name in ("a", "b"):
                (tmp_path / split / name).mkdir(parents=True)
                for number in range(count):
                    pixels = np.full((32, 32, 3), next(brightness), dtype=np.uint8)
                    Image.fromarray(pixels).save(tmp_path / split / name / f"{number}.png")
        return open_test(DataSpec(source=f"folder:{tmp_path}", image_size=32, val_fraction=0.2), backbone="deit_pico")

    return made


def brightness_of(task, part):
    samples, indices = task._loader.parts[part], getattr(task, f"_{part}")
    return {samples[int(index)][0].getextrema()[0] for index in indices}


def test_held_out_images_are_trained_on(opened):
    task = opened(train=10, val=4)
    whole = task.with_held_out()
    assert (task.num_train, whole.num_train) == (16, 20)
    held_out = brightness_of(task, "val")
    assert len(held_out) == 4
    assert brightness_of(whole, "train") == brightness_of(task, "train") | held_out
    assert not brightness_of(task, "train") & held_out
    assert sum(len(batch.labels) for batch in whole.fresh_epoch(Epoch(1, 0, batch_size=5))) == 20
    assert (whole.fingerprint, whole.num_val) == (task.fingerprint, task.num_val)
    assert whole.with_held_out() is whole


def test_validation_images_of_their_own_stay_apart(opened):
    task = opened(train=8, val=4, test=4)
    assert task.with_held_out() is task
    assert task.num_train == 16


def test_the_demo_has_its_own():
    task = open_test(DataSpec(), backbone="deit_pico")
    assert task.with_held_out() is task

"""Processes that train together: their shares of a step are the step, wherever an epoch begins."""

import numpy as np
import pytest
import torch
from PIL import Image

from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import open_task
from sparsesearch.data.task import Epoch, Share
from sparsesearch.study.spec import DataSpec


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for split, count in (("train", 15), ("val", 4)):
        for name in ("a", "b"):
            (root / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / split / name / f"{number}.png")
    return root


@pytest.fixture(scope="module", params=["digits", "folder"])
def task(request, folder):
    if request.param == "digits":
        return DigitsTask(image_size=32, in_chans=1)
    return open_task(DataSpec(source=f"folder:{folder}", image_size=32), backbone="deit_pico")


def read_all(batches):
    return [(batch.images, batch.labels) for batch in batches]


@pytest.mark.parametrize("world", [2, 3, 5])
@pytest.mark.parametrize("kind", ["fresh_epoch", "pool_epoch"])
def test_shares_together_are_the_step(task, kind, world):
    read = getattr(task, kind)
    whole = read_all(read(Epoch(2, 7, batch_size=8, num_images=24)))
    parts = [list(read(Epoch(2, 7, batch_size=8, num_images=24, share=Share(rank, world)))) for rank in range(world)]
    assert len(whole) == 3
    for step, (images, labels) in enumerate(whole):
        batches = [part[step] for part in parts]
        assert torch.equal(torch.cat([batch.images for batch in batches]), images)
        assert torch.equal(torch.cat([batch.labels for batch in batches]), labels)
        assert [batch.first for batch in batches] == [rank * 8 // world for rank in range(world)]
        assert sum(batch.fraction for batch in batches) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["fresh_epoch", "pool_epoch"])
def test_an_epoch_goes_on_at_a_step(task, kind):
    read = getattr(task, kind)
    whole = read_all(read(Epoch(2, 7, batch_size=8, num_images=24)))
    rest = read_all(read(Epoch(2, 7, batch_size=8, num_images=24, first_step=2)))
    assert len(rest) == 1
    assert torch.equal(rest[0][0], whole[2][0])


def test_micro_batches_know_their_place(task):
    (batch, *_) = task.pool_epoch(Epoch(1, 0, batch_size=16, share=Share(1, 2)))
    parts = list(batch.micro_batches(3))
    assert [(part.first, len(part.labels)) for part in parts] == [(8, 3), (11, 3), (14, 2)]
    assert torch.equal(torch.cat([part.images for part in parts]), batch.images)
    assert sum(part.fraction for part in parts) == pytest.approx(0.5)

"""Processes that train together: their shares of a step are the step, wherever an epoch begins."""

import multiprocessing
import random
import subprocess
import tarfile

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.transforms_factory import create_transform

from sparsesearch.data import image_loader
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import open_task
from sparsesearch.data.loading import Preprocessing
from sparsesearch.data.task import Batch, Epoch, Share
from sparsesearch.study.spec import DataSpec
from sparsesearch.training.arithmetic import Arithmetic


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


@pytest.fixture(scope="module")
def shards(folder, tmp_path_factory):
    root = tmp_path_factory.mktemp("shards")
    label = root / "label"
    for split in ("train", "val"):
        for number in range(2):
            with tarfile.open(root / f"{split}-{number}.tar", "w") as shard:
                for image in sorted((folder / split).rglob("*.png"))[number::2]:
                    label.write_text(str("ab".index(image.parent.name)))
                    shard.add(image, f"{image.parent.name}{image.name}")
                    shard.add(label, f"{image.parent.name}{image.stem}.cls")
    label.unlink()
    return root


def opened(source, **options):
    return open_task(DataSpec(source=source, image_size=32, **options), backbone="deit_pico")


@pytest.fixture(scope="module", params=["digits", "folder", "shards"])
def task(request, folder, shards):
    if request.param == "digits":
        return DigitsTask(image_size=32, in_chans=1)
    return opened({"folder": f"folder:{folder}", "shards": f"wds:{shards}"}[request.param], workers=0)


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


@pytest.mark.parametrize("kind", ["folder", "shards"])
def test_loader_processes_change_nothing(kind, folder, shards, monkeypatch):
    monkeypatch.setattr(image_loader, "_CHUNK", 3)
    source = {"folder": f"folder:{folder}", "shards": f"wds:{shards}"}[kind]
    epochs = [Epoch(number, 7, batch_size=8, share=share) for number in (1, 2) for share in (Share(), Share(1, 3))]
    tasks = [opened(source, workers=workers) for workers in (0, 1, 2)]
    expected = [read_all(tasks[0].fresh_epoch(epoch)) for epoch in epochs]
    assert not torch.equal(expected[0][0][0], expected[2][0][0])
    for task in tasks[1:]:
        found = [read_all(task.fresh_epoch(epoch)) for epoch in epochs]
        for batches, same in zip(found, expected, strict=True):
            assert all(map(torch.equal, sum(batches, ()), sum(same, ())))


def test_a_process_reads_its_own_share_only(folder, monkeypatch):
    task = opened(f"folder:{folder}", workers=0)
    read = []
    whole = image_loader._Decoding.fill_

    def noted(self, images, chunk):
        read.extend(chunk.indices.tolist())
        return whole(self, images, chunk)

    monkeypatch.setattr(image_loader._Decoding, "fill_", noted)
    for rank in range(3):
        read_all(task.fresh_epoch(Epoch(1, 7, batch_size=9, share=Share(rank, 3), first_step=1)))
    assert len(read) == len(set(read)) == 9


def test_epochs_may_overlap_and_end_early(folder):
    alone, helped = (opened(f"folder:{folder}", workers=workers) for workers in (0, 2))
    first = helped.fresh_epoch(Epoch(1, 7, batch_size=8))
    assert torch.equal(next(first).images, next(alone.fresh_epoch(Epoch(1, 7, batch_size=8))).images)
    second = read_all(helped.fresh_epoch(Epoch(2, 7, batch_size=8)))
    assert torch.equal(second[1][0], read_all(alone.fresh_epoch(Epoch(2, 7, batch_size=8)))[1][0])
    rest = [batch.images for batch in first]
    expected = [images for images, _ in read_all(alone.fresh_epoch(Epoch(1, 7, batch_size=8)))]
    assert all(map(torch.equal, rest, expected[1:]))
    next(helped.fresh_epoch(Epoch(3, 7, batch_size=4)))
    third = read_all(helped.fresh_epoch(Epoch(3, 7, batch_size=8)))
    assert torch.equal(third[0][0], next(alone.fresh_epoch(Epoch(3, 7, batch_size=8))).images)


def test_only_a_training_keeps_loader_processes(folder):
    task = opened(f"folder:{folder}", workers=2)
    assert len(list(task.val("screen", batch_size=2))) == 1
    assert not multiprocessing.active_children()
    read_all(task.fresh_epoch(Epoch(1, 7, batch_size=8)))
    kept = {child.pid for child in multiprocessing.active_children()}
    assert len(kept) == 2
    list(task.val("confirm", batch_size=2))
    read_all(task.fresh_epoch(Epoch(2, 7, batch_size=8)))
    assert {child.pid for child in multiprocessing.active_children()} == kept
    del task
    assert not multiprocessing.active_children()


def test_signals_to_all_processes_do_not_end_the_loader(folder):
    task = opened(f"folder:{folder}", workers=1)
    epoch = task.fresh_epoch(Epoch(1, 7, batch_size=4))
    next(epoch)
    (helper,) = multiprocessing.active_children()
    for name in ("-TERM", "-INT"):
        subprocess.run(["kill", name, str(helper.pid)], check=True)
    assert len(list(epoch)) == 5
    assert helper.is_alive()
    helper.terminate()
    helper.join(timeout=20)
    assert helper.exitcode == 0


def test_global_generators_stay_as_they_are(folder):
    task = opened(f"folder:{folder}", workers=0)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    read_all(task.fresh_epoch(Epoch(1, 7, batch_size=8)))
    assert (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()) == states


@torch.no_grad()
@pytest.mark.parametrize("chans", [1, 3])
def test_normalised_on_the_device_as_before_the_transfer(folder, chans):
    preprocessing = Preprocessing(32, in_chans=chans, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    theirs = create_transform(
        (chans, 32, 32),
        interpolation="bicubic",
        mean=preprocessing.mean[:chans],
        std=preprocessing.std[:chans],
        crop_pct=preprocessing.crop_pct,
    )
    images = [Image.open(path).convert(preprocessing.mode) for path in sorted(folder.rglob("*.png"))]
    ours = torch.stack([preprocessing.transform(is_training=False)(image) for image in images])
    assert ours.dtype == torch.uint8
    batch = Batch(ours, torch.zeros(len(images), dtype=torch.long), normalisation=preprocessing.normalisation)
    moved = Arithmetic.of("float32", device=torch.device("cpu")).to_device(batch)
    expected = torch.stack([theirs(image) for image in images])
    assert torch.equal(moved.images, expected)
    assert moved.normalisation is None
    assert torch.equal(moved.normalised().images, expected)
    parts = [part.normalised().images for part in batch.micro_batches(7)]
    assert torch.equal(torch.cat(parts), expected)

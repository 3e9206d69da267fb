"""Mixing, erasing and smoothing: timm's distributions, and the same numbers for every division of a step."""

import numpy as np
import pytest
import torch
from timm.data.mixup import Mixup, mixup_target
from timm.data.random_erasing import RandomErasing
from timm.loss import SoftTargetCrossEntropy
from torch.nn import functional as F

from sparsesearch.data.task import Batch
from sparsesearch.errors import SpecError
from sparsesearch.sparsify.draws import Draws
from sparsesearch.study.spec import Augmentation, TrainSpec
from sparsesearch.training.augmentation import Augmenter, check_pairs, erased, mixed, smoothed

EVERYTHING = Augmentation(mixup=0.8, cutmix=1.0, label_smoothing=0.1, random_erasing=0.25)


def batch(size, *, pixels=16, seed=0, **others):
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(size, 3, pixels, pixels, generator=generator)
    return Batch(images=images, labels=torch.randint(10, (size,), generator=generator), **others)


def part_of(whole, start, stop):
    return Batch(
        images=whole.images[start:stop], labels=whole.labels[start:stop], first=start, num_in_step=len(whole.labels)
    )


@pytest.mark.parametrize("world", [2, 3, 8])
def test_processes_see_what_one_process_sees(world):
    whole, change = batch(48), Augmenter(EVERYTHING, num_classes=10)
    expected = change(whole, Draws(1, 2))
    found = [change(part_of(whole, r * 48 // world, (r + 1) * 48 // world), Draws(1, 2)) for r in range(world)]
    assert torch.equal(torch.cat([part.images for part in found]), expected.images)
    assert torch.equal(torch.cat([part.labels for part in found]), expected.labels)
    assert expected.ids is None
    assert not torch.equal(change(whole, Draws(1, 3)).images, expected.images)
    assert torch.equal(whole.images, batch(48).images), "the loaded images are not changed"


def test_a_pair_is_mixed_as_timm_mixes_one(monkeypatch):
    """timm's `pair` mode, given the ratios and boxes that were drawn here, gives the same images and labels."""
    whole = batch(64)
    images, target = mixed(
        whole.images, smoothed(whole.labels, num_classes=10, smoothing=0.1), Draws(3), mixup=0.8, cutmix=1.0
    )
    kinds = set()
    for first in range(0, 64, 2):
        pair, labels = whole.images[first : first + 2], whole.labels[first : first + 2]
        own = pair[0] == images[first]
        is_cut = bool((own | (pair[1] == images[first])).all())
        kinds.add(is_cut)
        ratio = (
            float(own.float().mean()) if is_cut else float(((images[first] - pair[1]) / (pair[0] - pair[1])).median())
        )
        torch.testing.assert_close(
            target[first : first + 2], mixup_target(labels, 10, torch.tensor(ratio), 0.1), atol=1e-4, rtol=0
        )
        if not is_cut:
            torch.testing.assert_close(images[first], pair[0] * ratio + pair[1] * (1 - ratio), atol=1e-3, rtol=0)
            torch.testing.assert_close(images[first + 1], pair[1] * ratio + pair[0] * (1 - ratio), atol=1e-3, rtol=0)
    assert kinds == {True, False}


def own_ratios(*, mixup, cutmix, size=20_000):
    """The weight of its own class in each first image of a pair of different classes."""
    images = torch.zeros(size, 1, 32, 32)
    images[::2] = 1.0
    target = F.one_hot(torch.arange(size) % 2, 2).float()
    _, target = mixed(images, target, Draws(5), mixup=mixup, cutmix=cutmix)
    return target[::2, 0].numpy()


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.8, 0.0), (0.0, 1.0), (0.8, 1.0)])
def test_ratios_are_distributed_as_in_timm(mixup, cutmix):
    found = own_ratios(mixup=mixup, cutmix=cutmix)
    timms = Mixup(mixup_alpha=mixup, cutmix_alpha=cutmix, switch_prob=0.5, mode="pair", num_classes=2)
    np.random.seed(0)
    expected = timms._mix_pair(torch.zeros(20_000, 1, 32, 32))[:10_000, 0].numpy()
    levels = np.linspace(0.05, 0.95, 10)
    np.testing.assert_allclose(np.quantile(found, levels), np.quantile(expected, levels), atol=0.03)


def test_erased_rectangles_are_distributed_as_in_timm():
    images = torch.full((4000, 1, 32, 32), 9.0)
    found = erased(images, Draws(7), probability=0.25)
    timms = RandomErasing(0.25, mode="pixel", device="cpu")(images.clone())
    for changed in (found, timms):
        assert set(changed[changed != 9.0].abs().gt(7.0).tolist()) == {False}
    changed, expected = (found != 9.0).flatten(1).sum(1), (timms != 9.0).flatten(1).sum(1)
    assert float((changed > 0).float().mean()) == pytest.approx(0.25, abs=0.03)
    levels = np.linspace(0.1, 0.9, 5)
    ours, theirs = (np.quantile(count[count > 0].numpy() / 1024, levels) for count in (changed, expected))
    np.testing.assert_allclose(ours, theirs, atol=0.03)
    noise = found[found != 9.0]
    assert (float(noise.mean()), float(noise.std())) == pytest.approx((0.0, 1.0), abs=0.02)


def test_the_loss_of_soft_targets_is_timms():
    change = Augmenter(EVERYTHING, num_classes=10)(batch(8), Draws(1))
    logits = torch.randn(8, 10, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(F.cross_entropy(logits, change.labels), SoftTargetCrossEntropy()(logits, change.labels))
    torch.testing.assert_close(change.labels.sum(1), torch.ones(8))


def test_smoothing_alone_keeps_the_images():
    given = batch(3)
    found = Augmenter(Augmentation(label_smoothing=0.1), num_classes=10)(given, Draws(1))
    assert torch.equal(found.images, given.images)
    logits = torch.randn(3, 10, generator=torch.Generator().manual_seed(1))
    expected = F.cross_entropy(logits, given.labels, label_smoothing=0.1)
    torch.testing.assert_close(F.cross_entropy(logits, found.labels), expected)


def test_shares_must_be_whole_pairs():
    spec = TrainSpec(epochs=1, batch_size=24, augmentation=EVERYTHING)
    check_pairs(spec, num_images=1000, world=4)
    with pytest.raises(
        SpecError, match="for each of 5 processes, but a batch has 24; set batch_size to a multiple of 10"
    ):
        check_pairs(spec, num_images=1000, world=5)
    with pytest.raises(SpecError, match="but a batch has 7; set batch_size to an even number"):
        check_pairs(spec, num_images=7, world=1)
    check_pairs(spec.model_copy(update={"augmentation": Augmentation()}), num_images=7, world=5)
    with pytest.raises(SpecError, match="mixup and cutmix mix pairs"):
        Augmenter(EVERYTHING, num_classes=10)(batch(8, first=3, num_in_step=16), Draws(1))

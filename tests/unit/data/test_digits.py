import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from sparsesearch.data import digits
from sparsesearch.data.digits import CANVAS, DIGIT, draw_canvases, num_sources
from sparsesearch.data.digits_task import DigitsTask
from sparsesearch.data.inputs import open_task
from sparsesearch.data.source import absolute_source
from sparsesearch.data.task import Epoch
from sparsesearch.data.test_split import open_test
from sparsesearch.errors import DataError
from sparsesearch.study.spec import DataSpec

SPLITS = ("train", "val", "test")


def rows(images):
    return sorted(map(bytes, np.ascontiguousarray(images, dtype=np.uint8).reshape(len(images), -1)))


def test_no_source_digit_is_shared_between_the_splits():
    whole = load_digits()
    all_rows = rows(whole.images)
    assert len(set(all_rows)) == len(all_rows), "all source digits are different"
    parts = [digits._source_digits(split) for split in SPLITS]
    assert [len(labels) for _, labels in parts] == [num_sources(split) for split in SPLITS] == [1100, 300, 397]
    assert sorted(row for images, _ in parts for row in rows(images * 16)) == all_rows
    label_of = dict(zip(map(bytes, whole.images.astype(np.uint8).reshape(-1, 64)), whole.target, strict=True))
    for images, labels in parts:
        found = [label_of[bytes(row)] for row in np.rint(images * 16).astype(np.uint8).reshape(-1, 64)]
        assert found == labels.tolist()
        assert set(found) == set(range(10))


@pytest.mark.parametrize("split", SPLITS)
def test_canvases_use_the_digits_of_their_split_only(monkeypatch, split):
    asked = []
    whole = digits._source_digits

    def source_digits(wanted):
        asked.append(wanted)
        return whole(wanted)

    monkeypatch.setattr(digits, "_source_digits", source_digits)
    draw_canvases(split, per_digit=1, seed=0)
    assert set(asked) == {split}


def nearest_digits(canvases):
    """For each canvas the source digit of the val split that best explains what lies at its corner."""
    known = digits._source_digits("val")[0].reshape(300, -1)
    known = known / np.linalg.norm(known, axis=1, keepdims=True)
    pixels = canvases.images[:, 0] * digits.STD + digits.MEAN
    patches = [p[t : t + DIGIT, left : left + DIGIT] for p, (t, left) in zip(pixels, canvases.corners, strict=True)]
    return np.argmax(np.stack(patches).reshape(len(patches), -1) @ known.T, axis=1)


def test_the_label_is_that_of_the_whole_digit_at_the_corner():
    canvases = draw_canvases("val", per_digit=2, seed=4)
    assert np.mean(nearest_digits(canvases) == canvases.sources) > 0.99  # a quarter may touch a digit's edge
    assert canvases.labels.tolist() == digits._source_digits("val")[1][canvases.sources].tolist()
    assert sorted(canvases.sources.tolist()) == sorted([*range(300), *range(300)])
    assert canvases.corners.min() >= 0
    assert canvases.corners.max() + DIGIT <= CANVAS


def test_the_label_of_four_is_the_largest_of_four_digits():
    four, hard, plain = (draw_canvases("val", per_digit=4, seed=4, variant=name) for name in ("four", "hard", "plain"))
    _, labels = digits._source_digits("val")
    assert four.labels.tolist() == labels[four.sources].tolist()
    assert sorted(four.sources.tolist()) == sorted(plain.sources.tolist())
    ink = [float((c.images * digits.STD + digits.MEAN).sum(axis=(1, 2, 3)).mean()) for c in (plain, hard, four)]
    assert ink[2] - ink[1] > 1.3 * (ink[1] - ink[0]), "two whole digits more, and two quarters less"


def test_the_label_of_the_hard_variant_is_the_larger_of_two_digits():
    labels = digits._source_digits("val")[1]
    sources = np.arange(len(labels)).repeat(60)
    further = digits._not_larger(labels, sources, count=1, rng=np.random.default_rng(0))
    assert (further != sources[:, None]).all()
    for label in range(10):
        seen = labels[further[labels[sources] == label]]
        assert set(seen.ravel()) == set(range(label + 1))
    hard = draw_canvases("val", per_digit=4, seed=4, variant="hard")
    plain = draw_canvases("val", per_digit=4, seed=4)
    assert np.mean(nearest_digits(hard) == hard.sources) > 0.99
    assert hard.labels.tolist() == labels[hard.sources].tolist()
    assert sorted(hard.sources.tolist()) == sorted(plain.sources.tolist())
    ink = [float((c.images * digits.STD + digits.MEAN).sum(axis=(1, 2, 3)).mean()) for c in (plain, hard)]
    assert ink[1] / ink[0] == pytest.approx((2 + 2 / 4) / (1 + 3 / 4), rel=0.05)


def test_the_variants_are_different_data(task):
    hard = DigitsTask(image_size=32, in_chans=1, num_val_images=96, variant="hard")
    assert hard.fingerprint != task.fingerprint
    ours, theirs = (collected(each.val("confirm", batch_size=96))[0] for each in (hard, task))
    assert not canvases_of(ours) & canvases_of(theirs)


@pytest.mark.parametrize(("source", "kind"), [("digits", "plain"), ("digits:hard", "hard"), ("digits:four", "four")])
def test_either_variant_is_a_demo_with_a_test_split_of_its_own(source, kind):
    data = DataSpec(source=absolute_source(source))
    assert data.source == source
    assert data.is_demo
    opened = open_test(data, backbone="deit_pico")
    assert opened.fingerprint == open_task(data, backbone="deit_pico").fingerprint
    images = next(opened.test(batch_size=8)).images
    canvases = draw_canvases("test", per_digit=12, seed=31, variant=kind)
    assert np.array_equal(images.numpy(), canvases.images[:8])
    assert np.array_equal(opened.test_sources(), canvases.sources)


def test_another_variant_is_refused():
    with pytest.raises(DataError, match="digits:hard"):
        absolute_source("digits:easy")


def test_canvases_depend_on_split_and_seed_alone():
    first, again, other = (draw_canvases("val", per_digit=1, seed=seed) for seed in (1, 1, 2))
    for name in ("images", "labels", "corners", "sources"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.images, other.images)
    assert first.images.dtype == np.float32
    assert first.images.shape == (300, 1, CANVAS, CANVAS)


def collected(batches):
    batches = list(batches)
    return torch.cat([batch.images for batch in batches]), torch.cat([batch.labels for batch in batches])


def canvases_of(images):
    return {image.numpy().tobytes() for image in images}


def test_the_validation_parts_share_no_canvas_and_never_change(task):
    screen, more, confirm = (collected(task.val(part, batch_size=40))[0] for part in ("screen", "more", "confirm"))
    assert len(screen) == len(more) == len(confirm) == task.num_val == 96
    assert len(canvases_of(screen) | canvases_of(more) | canvases_of(confirm)) == 3 * 96
    other = DigitsTask(image_size=32, in_chans=1, num_val_images=96)
    assert torch.equal(collected(other.val("screen", batch_size=7))[0], screen)
    assert torch.equal(collected(task.val("screen", batch_size=96))[0], screen)


def test_training_canvases_are_none_of_the_validation_ones(task):
    train = collected(task.fresh_epoch(Epoch(number=1, seed=0, batch_size=64, num_images=640)))[0]
    pool = collected(task.pool_epoch(Epoch(number=1, seed=0, batch_size=64, num_images=640)))[0]
    val = collected(task.val("screen", batch_size=64))[0]
    assert not (canvases_of(train) | canvases_of(pool)) & canvases_of(val)


@pytest.mark.parametrize("kind", ["fresh_epoch", "pool_epoch"])
def test_epochs_differ_and_repeat_exactly(task, kind):
    def epoch(number, seed):
        return collected(getattr(task, kind)(Epoch(number=number, seed=seed, batch_size=32, num_images=64)))[0]

    assert torch.equal(epoch(1, 0), epoch(1, 0))
    assert not torch.equal(epoch(1, 0), epoch(2, 0))
    assert not torch.equal(epoch(1, 0), epoch(1, 1))


def test_ids_are_positions_in_the_pool(task):
    whole, labels = collected(task.pool(batch_size=512))
    assert len(whole) == 11_000
    seen = []
    for batch in task.pool_epoch(Epoch(number=3, seed=1, batch_size=100, num_images=300)):
        assert torch.equal(whole[batch.ids], batch.images)
        assert torch.equal(labels[batch.ids], batch.labels)
        seen += batch.ids.tolist()
    assert len(set(seen)) == 300
    assert next(task.val("screen", batch_size=8)).ids is None


def test_images_are_enlarged_and_repeated_over_channels(task):
    large = next(DigitsTask(image_size=224, in_chans=3, num_val_images=4).val("screen", batch_size=4))
    small = next(task.val("screen", batch_size=4))
    assert large.images.shape == (4, 3, 224, 224)
    assert torch.equal(large.images[:, 0], large.images[:, 2])
    assert torch.equal(large.labels, small.labels)
    shrunk = torch.nn.functional.avg_pool2d(large.images[:, :1], 7)
    assert float((shrunk - small.images).abs().mean()) < 0.25
    assert torch.equal(large.boxes, small.boxes)


def test_boxes_hold_the_whole_digit(task):
    batch = next(task.fresh_epoch(Epoch(number=1, seed=0, batch_size=256, num_images=256)))
    assert torch.equal((batch.boxes[:, 2:] - batch.boxes[:, :2]) * CANVAS, torch.full((256, 2), float(DIGIT)))
    assert float(batch.boxes.min()) >= 0.0
    assert float(batch.boxes.max()) <= 1.0

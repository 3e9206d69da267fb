"""Folders and checkpoints with many defects at once: read rightly, or refused in one line."""

import random
import re
import shutil
import time

import pytest
from data_defects import FATAL, GREY, HARMLESS, make_folder
from data_reading import check, opened
from weight_defects import DEFECTS, ema_asked_for, outcome, random_defects, weights_of, write
from weight_reading import load, same

from sparsesearch.errors import CheckpointError, DataError

NUM_CASES = 200
LIMIT_S = 20.0
"""No single one may take longer."""

NAMES = {
    "train": ("train", "Train", "TRAIN", "training"),
    "val": ("val", "Val", "valid", "Validation"),
    "test": ("test", "Test", "testing", "TESTING"),
}
LAYOUTS = (("train", "val", "test"), ("train", "val"), ("train", "test"), ())


def within_limit(act):
    started = time.perf_counter()
    try:
        return act()
    finally:
        assert time.perf_counter() - started < LIMIT_S


def a_folder(root, rng):
    """A random layout with several random defects; every third folder also has defects that forbid it."""
    splits = rng.choice(LAYOUTS)
    others = [name for name in GREY if name != "class2"]  # which one defect is about
    classes = ("class2", *rng.sample(others, k=rng.randint(1, len(others))))
    names = {split: rng.choice(NAMES[split]) for split in splits}
    made = make_folder(root, splits=splits, names=names, classes=classes, per_class=rng.randint(4, 8))
    chosen = rng.sample(list(HARMLESS), k=rng.randint(0, 8))
    if rng.random() < 1 / 3:
        chosen += rng.sample(list(FATAL), k=rng.randint(1, 2))
    # One class is removed or added, before all else, so that nothing that is counted goes with it.
    of_classes = [defect for defect in chosen if defect.startswith("class ")][:1]
    chosen = of_classes + [defect for defect in chosen if not defect.startswith("class ")]
    for defect in chosen:
        (HARMLESS.get(defect) or FATAL[defect])(made)
    return made, chosen


@pytest.mark.slow
def test_folders(tmp_path):
    """200 random folders: images, labels and what is left out as they were made, or one of the expected lines."""
    rng, refused, seen = random.Random(17), 0, set()
    for number in range(NUM_CASES):
        root = tmp_path / f"data-{number}"
        made, chosen = a_folder(root, rng)
        seen.update(chosen)
        try:
            if made.refused:
                refused += 1
                with pytest.raises(DataError) as caught:
                    within_limit(lambda made=made: opened(made, tmp_path))
                assert "\n" not in str(caught.value)
                assert any(re.search(pattern, str(caught.value)) for pattern in made.refused), caught.value
            else:
                check(made, within_limit(lambda made=made: opened(made, tmp_path)))
        except BaseException as error:
            error.add_note(f"folder {number}: {', '.join(chosen) or 'no defect'}, in {made.folders}")
            raise
        shutil.rmtree(root)
    assert NUM_CASES // 6 < refused < NUM_CASES // 2
    assert len(seen) > 0.9 * (len(HARMLESS) + len(FATAL))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
def test_checkpoints(tmp_path):
    """200 random checkpoints: every tensor as it was made, or refused with one of the lines expected."""
    rng, refused, seen = random.Random(17), 0, set()
    for number in range(NUM_CASES):
        tensors, chosen = weights_of(seed=number), random_defects(rng, readable=rng.random() < 2 / 3)
        seen.update(chosen)
        ema = ema_asked_for(chosen)
        path, expected = write(tmp_path / f"w-{number}", tensors, chosen), outcome(tensors, chosen)
        try:
            if expected.refused:
                refused += 1
                with pytest.raises(CheckpointError) as caught:
                    within_limit(lambda path=path, ema=ema: load(path, ema=ema))
                assert "\n" not in str(caught.value)
                assert any(words in str(caught.value) for words in expected.refused), caught.value
            else:
                fitted, state = within_limit(lambda path=path, ema=ema: load(path, ema=ema))
                assert all(same(state[name], value) for name, value in expected.values.items())
                assert (fitted.head, len(fitted.left_out)) == (expected.head, expected.left_out)
        except BaseException as error:
            error.add_note(f"checkpoint {number}: {', '.join(chosen) or 'no defect'}")
            raise
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    assert NUM_CASES // 6 < refused < NUM_CASES // 2
    assert len(seen) > 0.8 * len(DEFECTS)

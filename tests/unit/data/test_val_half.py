"""`val: half`: validation images that weights trained on the whole training split have not seen."""

from collections import Counter

import pytest
from data_reading import opened
from PIL import Image

from sparsesearch.errors import DataError


def images_of(part):
    samples, indices = part
    return {samples.table.path(index) for index in indices}


@pytest.fixture
def root(tmp_path):
    def write(*splits):
        for split in splits:
            for label in range(2):
                for number in range(12):
                    path = tmp_path / "data" / split / f"class{label}" / f"{number}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    shade = 20 * number + label + len(split) * 3
                    Image.new("RGB", (8, 8), (shade, shade, shade)).save(path)
        return tmp_path / "data"

    return write


def test_the_validation_split_is_divided_and_all_of_train_is_trained_on(root, tmp_path):
    folder = root("train", "val")
    half, held_out = (opened(folder, tmp_path, val=val) for val in ("half", "train"))
    assert len(images_of(half.train)) == 24
    val, test = images_of(half.val), images_of(half.test)
    assert not val & test
    assert all("/val/" in path for path in val | test)
    assert Counter(path.split("/")[-2] for path in val) == {"class0": 6, "class1": 6}
    assert len(val) == len(test) == 12
    assert (half.account.val_is_of_train, held_out.account.val_is_of_train) == (False, True)
    assert half.fingerprint != held_out.fingerprint


@pytest.mark.parametrize(("splits", "found"), [(("train", "val", "test"), "both"), (("",), "none")])
def test_where_there_is_no_one_split_to_divide_it_is_refused(root, tmp_path, splits, found):
    with pytest.raises(DataError, match=f"there is {found}.*; omit --val half"):
        opened(root(*splits), tmp_path, val="half")

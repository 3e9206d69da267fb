"""Shards with every defect: read with these counts, labels and pixels, or refused with this one line."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from shard_defects import FATAL, HARMLESS, STEP, png, samples, tar, write

from sparsesearch.data.content import Contents
from sparsesearch.data.samples import Splits
from sparsesearch.data.shards import open_shards
from sparsesearch.errors import DataError
from sparsesearch.study.spec import DataSpec


@pytest.fixture(autouse=True)
def _switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything of the environment that makes webdataset open something else; none has an effect."""
    monkeypatch.setenv("GOPEN_REWRITE", f"{tmp_path}=pipe:touch {tmp_path}/pwned; cat {tmp_path}")
    monkeypatch.setenv("WDS_REWRITE", f"{tmp_path}=http://127.0.0.1:9")
    monkeypatch.setenv("WDS_CACHE", str(tmp_path / "pwned"))
    monkeypatch.setattr(sys.modules["webdataset.gopen"], "gopen", None)


def opened(root: Path, **options: object) -> Splits:
    data = DataSpec.model_validate({"source": f"wds:{root}", **options})
    return open_shards(root, data, mode="RGB", contents=Contents(root.parent / "cache"))


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_is_read(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path / "data")
    expected = HARMLESS[kind](root)
    splits = opened(root)
    assert splits.num_classes == 3
    parts = (splits.train, splits.val, splits.test)
    assert [len(indices) for _, indices in parts] == [expected.train, expected.search, expected.test]
    shown = [[samples[index] for index in indices] for samples, indices in parts]
    for image, label in (sample for part in shown for sample in part):
        assert np.asarray(image).max() == 10 + STEP * label
    assert sum(splits.train_runs) == expected.train
    assert sum(splits.account.left_out.values()) == expected.left_out
    assert not list(tmp_path.rglob("pwned"))
    again = opened(root)
    assert (again.fingerprint, again.account) == (splits.fingerprint, splits.account)
    same = [[samples[index] for index in indices] for samples, indices in (again.train, again.val, again.test)]
    assert same == shown, "what is remembered of shards is what was read"


@pytest.mark.parametrize("kind", FATAL)
def test_what_is_refused(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path / "data")
    defect, said = FATAL[kind]
    defect(root)
    with pytest.raises(DataError) as caught:
        opened(root)
    assert re.search(said, str(caught.value)), caught.value
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("pwned"))


def test_halves_have_the_same_classes(tmp_path: Path) -> None:
    splits = opened(write(tmp_path / "data"))
    val, test = splits.val, splits.test
    parts = [(val[0], val[1][0::2]), (val[0], val[1][1::2]), test]
    assert [Counter(samples[index][1] for index in part) for samples, part in parts] == [
        {0: 1, 1: 1, 2: 1},
        {0: 1, 1: 1, 2: 1},
        {0: 2, 1: 2, 2: 2},
    ]
    places = [tuple(samples.places[index, :2]) for samples, part in parts for index in part]
    assert len(set(places)) == 12


def test_labels_that_are_corrected_in_place_are_another_data_set(tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    first = opened(root).fingerprint
    shard = root / "train-000000.tar"
    size = shard.stat().st_size
    shard.write_bytes(tar(samples([1, *([0, 1, 2] * 3)[1:]], prefix="0")))
    assert shard.stat().st_size == size
    assert opened(root).fingerprint != first
    moved = root.rename(tmp_path / "moved")
    assert opened(moved).fingerprint == opened(moved).fingerprint != first


def test_broken_images_are_left_out_on_request(tmp_path: Path) -> None:
    root = write(tmp_path / "data")
    cut = png(0)[:-30]
    members = [*samples([0, 1, 2] * 5), ("x.png", cut), ("x.cls", b"0"), ("y.png", b""), ("y.cls", b"1")]
    (root / "train-000009.tar").write_bytes(tar(members))
    splits = opened(root, on_broken="skip")
    assert len(splits.train[1]) == 18 + 15
    assert splits.account.left_out == {"broken images": 2}
    assert [name.partition(" of ")[0] for name in splits.account.broken] == ["image 15", "image 16"]

"""Shards with every defect: read with these counts, labels and pixels, or refused with this one line."""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from shard_defects import FATAL, HARMLESS, STEP, VAL, png, samples, tar, write

from sparsesearch.data.content import Contents
from sparsesearch.data.shard_reader import read_entries
from sparsesearch.data.shards import Stream, decode_entry, open_stream
from sparsesearch.errors import DataError
from sparsesearch.study.spec import DataSpec


@pytest.fixture(autouse=True)
def _switches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything of the environment that makes webdataset open something else; none has an effect."""
    monkeypatch.setenv("GOPEN_REWRITE", f"{tmp_path}=pipe:touch {tmp_path}/pwned; cat {tmp_path}")
    monkeypatch.setenv("WDS_REWRITE", f"{tmp_path}=http://127.0.0.1:9")
    monkeypatch.setenv("WDS_CACHE", str(tmp_path / "pwned"))
    monkeypatch.setattr(sys.modules["webdataset.gopen"], "gopen", None)


def opened(root: Path, **options: object) -> Stream:
    data = DataSpec.model_validate({"source": f"wds:{root}", **options})
    return open_stream(root, data, contents=Contents(root.parent / "cache"))


@pytest.mark.parametrize("kind", HARMLESS)
def test_what_is_read(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path / "data")
    expected = HARMLESS[kind](root)
    stream = opened(root)
    assert stream.num_classes == 3
    counts = (stream.num_train, len(stream.search[1]), len(stream.test[1]))
    assert counts == (expected.train, expected.search, expected.test)
    entries = list(read_entries(stream.train))
    assert len(entries) == expected.train
    for entry in entries:
        assert np.asarray(decode_entry(entry, mode="RGB")).max() == 10 + STEP * entry.label
    assert sum(stream.account.left_out.values()) == expected.left_out
    assert not list(tmp_path.rglob("pwned"))
    assert opened(root) == stream, "what is remembered of shards is what was read"


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
    stream = opened(write(tmp_path / "data"))
    parts = [stream.search[1][0::2], stream.search[1][1::2], stream.test[1]]
    assert [Counter(VAL[position] for position in part) for part in parts] == [
        {0: 1, 1: 1, 2: 1},
        {0: 1, 1: 1, 2: 1},
        {0: 2, 1: 2, 2: 2},
    ]
    assert sorted(position for part in parts for position in part) == list(range(12))


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
    stream = opened(root, on_broken="skip")
    assert stream.num_train == 18 + 15
    assert stream.account.left_out == {"broken images": 2}
    assert [name.partition(" of ")[0] for name in stream.account.broken] == ["image 15", "image 16"]

"""`data check` says what would be used, as a study would."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from data_defects import BROKEN, HARMLESS, MadeFolder, make_folder

from sparsesearch.app.check_data import check_data
from sparsesearch.data.inputs import open_task
from sparsesearch.data.source import source_of
from sparsesearch.errors import DataError
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import DataSpec


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MadeFolder:
    monkeypatch.setenv("SPARSESEARCH_HOME", str(tmp_path / "home"))
    return make_folder(tmp_path / "data")


def check(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sparsesearch", "data", "check", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_a_usable_folder(made: MadeFolder) -> None:
    HARMLESS["files of no image type"](made)
    done = check(f"folder:{made.root}", "--json", "--backbone", "deit_s")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert (found["classes"], found["train"], found["search"], found["test"]) == (3, 18, 18, 18)
    assert found["class_names"] == ["class1", "class2", "class10"]
    assert list(found["left_out"].values()) == [7]
    assert found["broken"] == []
    assert found["notes"] == ["9 validation images: accuracy in steps of 11.1 points"]
    assert found["image_size"] == 224
    alphabetical = json.loads(check(f"folder:{made.root}", "--json", "--class-order", "alphabetical").stdout)
    assert alphabetical["class_names"] == ["class1", "class10", "class2"]


@pytest.mark.parametrize("source", ["digits", "wds:shards", "hfds/owner/name", "torch/cifar10:data"])
def test_an_order_of_classes_is_refused_where_none_can_be_chosen(source: str) -> None:
    data = DataSpec(source=source, class_order="alphabetical")
    with pytest.raises(DataError, match=r"numbers its classes itself, and class_order \(--class-order\)"):
        check_data(data, backbone=None, decode_all=False, progress=Silent())
    with pytest.raises(DataError, match="leave it out"):
        open_task(data, backbone="deit_pico")
    assert source_of(data.model_copy(update={"source": "torch/image_folder:data"})).kind == "torch"


def test_data_that_cannot_be_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    data = DataSpec(source=f"torch/cifar10:{tmp_path}")
    with pytest.raises(DataError, match=r"cifar10 is not in .*, and downloading it failed \(.*refused\); put it there"):
        check_data(data, backbone=None, decode_all=False, progress=Silent())


def test_all_broken_images_are_listed_at_once(made: MadeFolder) -> None:
    for defect in BROKEN.values():
        defect(made)
    first = check(f"folder:{made.root}")
    assert first.returncode == 2
    assert f"sparsesearch data check folder:{made.root} --all" in first.stderr.splitlines()[-1]
    everything = check(f"folder:{made.root}", "--all", "--json")
    assert everything.returncode == 2
    found = json.loads(everything.stdout.splitlines()[-1])
    assert sorted(found["broken"]) == sorted(map(str, made.broken))
    assert (found["train"], found["left_out"]) == (18, {"broken images": 10})
    assert "10 broken images; remove or replace what is broken" in everything.stderr.splitlines()[-1]
    skipped = check(f"folder:{made.root}", "--all", "--on-broken", "skip")
    assert skipped.returncode == 0
    assert skipped.stdout.count("broken: ") == 10


def test_a_folder_is_checked_without_torch(made: MadeFolder) -> None:
    code = (
        "import sys; from sparsesearch.app.check_data import check_data; from sparsesearch.study.spec import DataSpec;"
        "from sparsesearch.study.progress import Silent;"
        "check_data(DataSpec(source=sys.argv[1]), backbone='deit_s', decode_all=True, progress=Silent());"
        "assert not {'torch', 'timm', 'ray', 'mlflow'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, f"folder:{made.root}"], check=True, timeout=120)


@pytest.mark.parametrize("damage", ["missing", "a class without images", "a broken image", None])
def test_paths_with_line_feeds_and_escapes_are_one_line(
    tmp_path: Path, damage: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPARSESEARCH_HOME", str(tmp_path / "home"))
    root = tmp_path / "a\nb \x1b[31m\u2028\udce9"
    if damage != "missing":
        make_folder(root)
    if damage == "a class without images":
        (root / "train" / "new\nclass").mkdir()
    if damage == "a broken image":
        (root / "train" / "class1" / "000.png").write_bytes(b"\x00")
    done = check(f"folder:{root}", "--quiet")
    assert done.returncode == (2 if damage else 0)
    (line,) = done.stderr.splitlines() if damage else done.stdout.splitlines()[:1]
    assert "a\\nb \\x1b[31m\\u2028\\udce9" in line


@pytest.mark.parametrize("size", ["256x192x3", "axb", "0x224", "4", "99999999999", "big"])
def test_image_sizes_that_are_refused(size: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sparsesearch", "cost", "--backbone", "deit_s", "--image-size", size],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "invalid image size" in done.stderr.splitlines()[-1]
    assert len(done.stderr.splitlines()) == 1

"""Folders with every defect: read with these counts, classes and pixels, or refused with this one line."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from data_defects import BROKEN, FATAL, GREY, HARMLESS, grey, make_folder
from data_reading import check, opened

from sparsesearch.data.samples import left_out_text
from sparsesearch.errors import DataError

LAYOUTS: dict[str, tuple[str, ...]] = {
    "train, val, test": ("train", "val", "test"),
    "train, val": ("train", "val"),
    "train, test": ("train", "test"),
    "class folders": (),
}


@pytest.mark.parametrize("defect", HARMLESS)
@pytest.mark.parametrize("layout", ["train, val, test", "class folders"])
def test_what_is_read(tmp_path: Path, layout: str, defect: str) -> None:
    made = make_folder(tmp_path / "data", splits=LAYOUTS[layout])
    HARMLESS[defect](made)
    check(made, opened(made, tmp_path))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_all_that_is_harmless_at_once(tmp_path: Path, layout: str) -> None:
    made = make_folder(tmp_path / "data", splits=LAYOUTS[layout], classes=tuple(GREY))
    for defect in HARMLESS.values():
        defect(made)
    check(made, opened(made, tmp_path))


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("Train", "Val", "Test"),
        ("TRAIN", "VAL", "TEST"),
        ("training", "validation", "testing"),
        ("Training", "Validation", "Testing"),
        ("train", "valid", "test"),
        ("train", "Valid", None),
        ("Training", None, "Testing"),
        ("train", None, "test"),
    ],
)
def test_names_of_splits(tmp_path: Path, train: str, val: str | None, test: str | None) -> None:
    names = {split: name for split, name in (("train", train), ("val", val), ("test", test)) if name is not None}
    made = make_folder(tmp_path / "data", splits=tuple(names), names=names)
    check(made, opened(made, tmp_path))


@pytest.mark.parametrize("defect", FATAL)
def test_what_is_refused(tmp_path: Path, defect: str) -> None:
    made = make_folder(tmp_path / "data")
    FATAL[defect](made)
    with pytest.raises(DataError) as caught:
        opened(made, tmp_path)
    assert "\n" not in str(caught.value)
    assert any(re.search(pattern, str(caught.value)) for pattern in made.refused), caught.value


def test_what_is_left_out_is_said_in_singular_and_plural(tmp_path: Path) -> None:
    made = make_folder(tmp_path / "data")
    for name in ("file .DS_Store", "files of no image type", "files outside", "dangling link", "cycle of links"):
        HARMLESS[name](made)
    HARMLESS["named pipe"](made)
    BROKEN["text"](made)
    reasons = [*opened(made, tmp_path, on_broken="skip").account.left_out, "files that are no shards of a split"]
    once, twice = (left_out_text(dict.fromkeys(reasons, count)) for count in (1, 2000))
    assert once == (
        "left out: 1 broken image, 1 file outside of class folders, 1 hidden or system file or folder, "
        "1 link to a folder that is read already, 1 link without a target, 1 special file, "
        "1 file of no image type (.gif, .xml, .npy, .pkl, .json, ...), 1 file that is no shard of a split"
    )
    assert twice == "left out: " + ", ".join(f"2,000 {reason}" for reason in reasons)


@pytest.mark.parametrize("defect", BROKEN)
def test_what_is_left_out_on_request(tmp_path: Path, defect: str) -> None:
    made = make_folder(tmp_path / "data")
    BROKEN[defect](made)
    splits = opened(made, tmp_path, on_broken="skip")
    assert splits.account.broken == tuple(map(str, made.broken))
    made.left_out["broken images"] = 1
    check(made, splits)


def _only(*folders: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        for folder in folders:
            (root / folder).mkdir(parents=True)
            for number in range(4):
                grey(9).save(root / folder / f"{number}.png")

    return write


def _images_directly(root: Path) -> None:
    root.mkdir()
    grey(9).save(root / "a.png")


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (_only("val/a", "val/b"), "has val, but no folder train"),
        (_only("Test/a", "valid/a"), "has Test and valid, but no folder train"),
        (_only("train/a", "train/b"), "has a folder train, but none for validation or test; .*give folder:.*/train"),
        (_only("a"), "has only the class folder a"),
        (_only("train/a", "val/a"), r"train has only the class folder a"),
        (_only("train", "val"), "train has images directly inside and no class folders"),
        (_images_directly, "has images directly inside and no class folders"),
        (lambda root: root.mkdir(), "has no class folders"),
        (lambda root: root.write_text("x"), "is a file, not a folder"),
        (lambda root: None, "no such data folder"),
        (lambda root: [_only("a")(root), (root / "b").mkdir()], "the class folder .*/b contains no images"),
        (lambda root: make_folder(root, splits=(), per_class=1), "too few to hold out 10%"),
        (lambda root: make_folder(root, splits=("train", "val"), per_class=1), "too few to hold out 10%"),
    ],
)
def test_layouts_that_are_refused(tmp_path: Path, write: Callable[[Path], object], said: str) -> None:
    write(tmp_path / "data")
    with pytest.raises(DataError, match=said) as caught:
        opened(tmp_path / "data", tmp_path)
    assert "\n" not in str(caught.value)


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    _only("control", "test")(tmp_path / "data")
    assert opened(tmp_path / "data", tmp_path).class_names == ("control", "test")


@pytest.mark.parametrize(
    ("order", "expected"),
    [("natural", ("class1", "class2", "class10")), ("alphabetical", ("class1", "class10", "class2"))],
)
def test_order_of_classes(tmp_path: Path, order: str, expected: tuple[str, ...]) -> None:
    splits = opened(make_folder(tmp_path / "data"), tmp_path, class_order=order)
    assert splits.class_names == expected
    assert splits.account.orders_differ
    synsets = make_folder(tmp_path / "other", classes=("class1", "Über uns"))
    assert not opened(synsets, tmp_path).account.orders_differ


@pytest.fixture
def for_everybody() -> Iterator[Path]:
    """A folder that other users can reach, as root reads everything."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_may_not_be_read_is_named(for_everybody: Path, what: str) -> None:
    made = make_folder(for_everybody / "data")
    secret = made.some_class()[1] / ("secret" if what == "folder" else "secret.png")
    secret.mkdir() if what == "folder" else grey(1).save(secret)
    secret.chmod(0)
    own = os.geteuid()
    try:
        if own == 0:
            os.seteuid(65534)
        with pytest.raises(DataError, match=rf"{secret} cannot be read \(Permission denied\)"):
            opened(made, for_everybody / "cache")
    finally:
        os.seteuid(own)
        secret.chmod(0o700)

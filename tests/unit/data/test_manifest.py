"""A folder is looked through by one process; the others read what it found."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from data_defects import grey, make_folder

from sparsesearch.data import content_cache, folders
from sparsesearch.data.content import Contents
from sparsesearch.data.file_walk import FoundFile, LeftOut, image_files
from sparsesearch.data.folders import open_folder
from sparsesearch.data.image_table import Listing
from sparsesearch.data.inputs import open_task
from sparsesearch.data.repaired import FolderImage
from sparsesearch.data.samples import Splits
from sparsesearch.data.task import Epoch
from sparsesearch.data.test_split import open_test
from sparsesearch.errors import DataError
from sparsesearch.evaluate.opening import open_context
from sparsesearch.study.spec import DataSpec


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(content_cache, "_SETTLED_NS", 0)


@pytest.fixture
def walks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The class folders that are looked through."""
    found: list[str] = []
    whole = folders.image_files

    def noted(folder: str, *, left_out: LeftOut) -> list[FoundFile]:
        found.append(folder)
        return whole(folder, left_out=left_out)

    monkeypatch.setattr(folders, "image_files", noted)
    return found


@pytest.fixture
def studies(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many files are looked up or hashed, each time that the manifest does not do."""
    found: list[int] = []
    whole = Contents.digest_rows

    def noted(self, count, files):
        found.append(count)
        return whole(self, count, files)

    monkeypatch.setattr(Contents, "digest_rows", noted)
    return found


def opened(root: Path, cache: Path, *, state: str = "", **options: object) -> Splits:
    data = DataSpec.model_validate({"source": f"folder:{root}", **options})
    return open_folder(root, data, mode="RGB", contents=Contents(cache), state=state)


def shown(splits: Splits) -> list[list[tuple[str, int]]]:
    tables = [samples.table for samples, _ in (splits.train, splits.val, splits.test)]
    return [[(table.path(index), int(table.labels[index])) for index in range(len(table))] for table in tables]


@pytest.mark.parametrize("parts", [("train", "val", "test"), ("train", "val"), ()])
@pytest.mark.parametrize("on_broken", ["stop", "skip"])
def test_what_is_read_is_what_was_found(
    tmp_path: Path, settled: None, walks: list[str], studies: list[int], parts: tuple[str, ...], on_broken: str
) -> None:
    made = make_folder(tmp_path / "data", splits=parts or ("all",), per_class=20)
    root = made.root if parts else made.root / "all"
    (root / "train" / "class1" / "notes.txt" if parts else root / "class1" / "notes.txt").write_text("no image")
    if on_broken == "skip":
        next(root.rglob("007.png")).write_bytes(b"broken")
    first = opened(root, tmp_path, on_broken=on_broken)
    names = sorted(str(path) for path in root.rglob("*.png"))
    used = [*(path for part in shown(first) for path, _ in part), *first.account.broken]
    # Without a broken image, the halves of the search validation can differ by one image, which is then left out.
    assert len(names) - (on_broken == "skip") <= len(used) == len(set(used))
    assert set(used) <= set(names)
    assert len(first.account.broken) == (on_broken == "skip")
    assert sum(first.account.left_out.values()) == 1 + (on_broken == "skip")
    looked = len(walks)
    for state, walked in ((first.state, 0), ("", looked)):
        walks.clear()
        again = opened(root, tmp_path, state=state, on_broken=on_broken)
        assert len(walks) == walked
        assert shown(again) == shown(first)
        assert replace(again, train=first.train, val=first.val, test=first.test) == first
    assert studies == [len(names)], "what is known of the files is taken from the manifest"


@pytest.mark.parametrize("change", ["replaced", "touched", "added", "removed", "renamed"])
def test_a_change_is_noticed(tmp_path: Path, settled: None, studies: list[int], change: str) -> None:
    root = make_folder(tmp_path / "data").root
    first, file = opened(root, tmp_path), root / "train" / "class1" / "000.png"
    match change:
        case "replaced":
            grey(99).save(file)
        case "touched":
            os.utime(file)
        case "added":
            grey(99).save(file.with_name("new.png"))
        case "removed":
            file.unlink()
        case "renamed":
            file.rename(file.with_name("new.png"))
    second = opened(root, tmp_path)
    assert (second.fingerprint == first.fingerprint) == (change == "touched")
    assert second.state != first.state
    assert len(studies) == 2
    assert opened(root, tmp_path, state=first.state).state == second.state, "not what it was told: it looks itself"


@pytest.mark.parametrize("damage", [b"", b"no manifest", None])
def test_without_a_manifest_a_process_looks_itself(tmp_path: Path, settled: None, damage: bytes | None) -> None:
    root = make_folder(tmp_path / "data").root
    first = opened(root, tmp_path)
    (file,) = tmp_path.glob("data-*.safetensors")
    file.unlink() if damage is None else file.write_bytes(damage)
    assert shown(opened(root, tmp_path, state=first.state)) == shown(first)


def test_files_that_were_written_just_now_are_believed_by_name_only(tmp_path: Path, studies: list[int]) -> None:
    root = make_folder(tmp_path / "data").root
    first = opened(root, tmp_path)
    assert opened(root, tmp_path, state=first.state).state == first.state
    assert len(studies) == 1
    assert opened(root, tmp_path).fingerprint == first.fingerprint
    assert len(studies) == 2


def test_options_have_manifests_of_their_own(tmp_path: Path, settled: None, studies: list[int]) -> None:
    root = make_folder(tmp_path / "data", splits=("train", "val"), per_class=40).root
    kinds: list[dict[str, object]] = [{}, {"val_fraction": 0.3}, {"class_order": "alphabetical"}, {"on_broken": "skip"}]
    found = [opened(root, tmp_path, **kind) for kind in kinds]
    assert len({splits.fingerprint for splits in found}) == 4
    for kind, splits in zip(kinds, found, strict=True):
        assert shown(opened(root, tmp_path, state=splits.state, **kind)) == shown(splits)
    assert len(studies) == 4


def test_a_cache_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    lines: list[str] = []
    root = make_folder(tmp_path / "data").root
    contents = Contents(tmp_path / "cache")
    contents.progress.line = lines.append  # type: ignore[method-assign]
    contents.cache.folder = tmp_path / "data" / "train" / "class1" / "000.png"
    splits = open_folder(root, DataSpec(source=f"folder:{root}"), mode="RGB", contents=contents)
    assert len(shown(splits)[0]) == 18
    assert len(lines) == 1
    assert "cannot be used" in lines[0]


def test_workers_of_a_study_look_at_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, walks: list[str]) -> None:
    from sparsesearch.app.resolve import resolve
    from sparsesearch.app.validate import validate
    from sparsesearch.study.progress import Silent

    monkeypatch.setenv("SPARSESEARCH_HOME", str(tmp_path / "home"))
    root = make_folder(tmp_path / "data", splits=("train", "val", "test"), per_class=12).root
    document = {
        "name": "s",
        "backbone": "deit_pico",
        "budget": "60%",
        "weights": "scratch",
        "precision": "float32",
        "device": "cpu",
        "data": {"source": f"folder:{root}", "image_size": 32},
    }
    spec = resolve(validate(document), progress=Silent())
    context = open_context(spec)
    walks.clear()
    worker = open_context(spec, data_state=context.task.state)
    assert not walks
    assert worker.task.fingerprint == context.task.fingerprint
    images = [next(each.task.fresh_epoch(Epoch(1, 0, batch_size=8))).images for each in (context, worker)]
    assert (images[0] == images[1]).all()
    test = open_test(spec.data, backbone="deit_pico", state=context.task.state)
    assert not walks
    assert sum(len(batch.labels) for batch in test.test(batch_size=9)) == 36
    grey(99).save(next(root.rglob("000.png")))
    with pytest.raises(DataError, match="has changed since study"):
        open_context(spec)
    assert open_task(spec.data, backbone="deit_pico").state != context.task.state


def test_a_million_images_take_tens_of_megabytes(tmp_path: Path) -> None:
    count = 1000
    files = (
        FolderImage("train", number % 10, FoundFile("", f"n01440764_{number:05d}.JPEG", (number, 1, 2, 3)))
        for number in range(count)
    )
    listing = Listing.of(files, folders={"train": "/d/train"}, classes=tuple("abcdefghij"))
    table = listing.table
    arrays = (table.names, table.starts, table.lengths, table.labels, table.splits)
    assert sum(array.nbytes for array in arrays) / count == 20 + 8 + 2 + 4 + 1
    assert table.path(999) == "/d/train/j/n01440764_00999.JPEG"
    chosen = table.taken([3, 999, 3])
    assert [chosen.name(index) for index in range(3)] == [table.name(index) for index in (3, 999, 3)]
    assert chosen.names is table.names
    assert listing.files([5])[0] == FoundFile("/d/train/f/n01440764_00005.JPEG", "n01440764_00005.JPEG", (5, 1, 2, 3))


def test_names_of_any_bytes(tmp_path: Path, settled: None) -> None:
    root = make_folder(tmp_path / "data").root
    folder = os.fsencode(root / "train" / "class1")
    names = [b"na\xffme.png", "größe.png".encode(), b"deeper/still/a b.png"]
    for name in names:
        os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
        grey(1).save(os.path.join(folder, name))
    first = opened(root, tmp_path)
    walked = {file.path for file in image_files(os.fsdecode(folder), left_out=LeftOut())}
    assert {os.fsencode(path) for path in walked} >= {os.path.join(folder, name) for name in names}
    again = opened(root, tmp_path, state=first.state)
    assert walked <= {path for path, _ in shown(again)[0]}
    assert np.asarray(again.train[0][0][0]).size

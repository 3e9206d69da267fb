"""Contents are hashed once, and every change is seen."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from data_defects import grey, make_folder

from sparsesearch.data import content, content_cache
from sparsesearch.data.content import Contents, changed_data
from sparsesearch.data.file_walk import LeftOut, image_files
from sparsesearch.data.folders import open_folder
from sparsesearch.data.samples import Splits
from sparsesearch.data.task import Epoch
from sparsesearch.errors import DataError
from sparsesearch.study.spec import DataSpec


@pytest.fixture(autouse=True)
def _settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that were written just now are remembered."""
    monkeypatch.setattr(content_cache, "_SETTLED_NS", 0)


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The paths of the files whose contents are read."""
    paths: list[str] = []
    whole = content._digest

    def digest(file):
        paths.append(file.path)
        return whole(file)

    monkeypatch.setattr(content, "_digest", digest)
    return paths


def fingerprint(root: Path, cache: Path, **options: object) -> str:
    data = DataSpec.model_validate({"source": f"folder:{root}", **options})
    return open_folder(root, data, mode="RGB", contents=Contents(cache)).fingerprint


def files_of(splits: Splits) -> list[list[tuple[str, int]]]:
    tables = [(samples.table, order) for samples, order in (splits.train, splits.val, splits.test)]
    return [[(table.path(index), int(table.labels[index])) for index in order] for table, order in tables]


def test_a_file_is_read_once(tmp_path: Path, read: list[str]) -> None:
    root = make_folder(tmp_path / "data").root
    first = fingerprint(root, tmp_path)
    assert len(read) == len(set(read)) == 54
    assert fingerprint(root, tmp_path) == first
    assert len(read) == 54
    changed = root / "val" / "class1" / "003.png"
    grey(3).save(changed)
    assert fingerprint(root, tmp_path) != first
    assert read[54:] == [str(changed)]


def test_other_pictures_of_the_same_size_and_time_are_seen(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data").root
    first, file = fingerprint(root, tmp_path), root / "train" / "class1" / "000.png"
    before, whole = file.stat(), file.read_bytes()
    other = root / "train" / "class2" / "000.png"
    file.write_bytes(other.read_bytes()[: len(whole)].ljust(len(whole), b"\0"))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_size, file.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    assert fingerprint(root, tmp_path) != first


def test_what_the_fingerprint_follows(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data").root
    first = fingerprint(root, tmp_path)
    root = root.rename(tmp_path / "elsewhere")
    assert fingerprint(root, tmp_path) == first, "moved"
    (root / "val").rename(root / "Validation")
    assert fingerprint(root, tmp_path) == first, "the name of a split is no part of the data"
    assert fingerprint(root, tmp_path / "new", class_order="alphabetical") != first, "other labels"
    (root / "train" / "class1" / "000.png").rename(root / "train" / "class1" / "900.png")
    assert fingerprint(root, tmp_path) != first, "another name"
    (root / "train" / "class1" / "900.png").rename(root / "train" / "class2" / "900.png")
    assert fingerprint(root, tmp_path) != first, "another label"


def test_a_file_that_was_written_just_now_is_not_remembered(
    tmp_path: Path, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content_cache, "_SETTLED_NS", 10**12)
    root = make_folder(tmp_path / "data").root
    assert fingerprint(root, tmp_path) == fingerprint(root, tmp_path)
    assert len(read) == 2 * 54


@pytest.mark.parametrize("damage", [b"no database at all" * 99, None])
def test_without_a_cache_it_goes_on_and_says_so(tmp_path: Path, damage: bytes | None) -> None:
    lines: list[str] = []

    class Lines(content.Silent):
        def line(self, text: str) -> None:
            lines.append(text)

    root = make_folder(tmp_path / "data").root
    cache = tmp_path / "cache"
    if damage is None:
        cache.write_text("a file where the folder should be")
    else:
        cache.mkdir()
        (cache / "data-contents.sqlite").write_bytes(damage)
    found = Contents(cache, progress=Lines())
    opened = open_folder(root, DataSpec(source=f"folder:{root}"), mode="RGB", contents=found)
    assert opened.fingerprint == fingerprint(root, tmp_path / "good")
    assert len(lines) == 1
    assert "cannot be used" in lines[0]


def test_processes_that_begin_at_once_share_a_new_home(tmp_path: Path) -> None:
    root = make_folder(tmp_path / "data", per_class=40).root
    code = (
        "import sys; from pathlib import Path; from sparsesearch.data.content import Contents;"
        "from sparsesearch.data.file_walk import *;"
        "import sparsesearch.data.content_cache as k; k._SETTLED_NS = 0;"
        "c = Contents(Path(sys.argv[2])); f = image_files(sys.argv[1], left_out=LeftOut());"
        "print(hash(tuple(c.digests(f))) and len(f), c.cache.problem)"
    )
    command = [sys.executable, "-c", code, str(root), str(tmp_path / "home")]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [each.communicate()[0].split() for each in running] == [["360", "None"]] * 3
    files = image_files(str(root), left_out=LeftOut())
    assert len(Contents(tmp_path / "home").cache.files([file.path for file in files])) == len(files) == 360


def test_a_study_opens_its_task_again_after_a_repair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sparsesearch.data.inputs import open_task

    monkeypatch.setenv("SPARSESEARCH_HOME", str(tmp_path / "home"))
    made = make_folder(tmp_path / "data", splits=("train", "val"), per_class=90)
    file = made.folders["train"] / "class1" / "031.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:45])
    data = DataSpec(source=f"folder:{made.root}")
    task = open_task(data, backbone="deit_pico")
    parts = [task.fresh_epoch(Epoch(number=epoch, seed=0, batch_size=16)) for epoch in range(3)]
    parts += [task.val("screen", batch_size=16), task.val("confirm", batch_size=16)]
    with pytest.raises(DataError, match=r"031\.png is not a readable image"):
        [len(batch.labels) for part in parts for batch in part]
    file.write_bytes(whole)
    assert open_task(data, backbone="deit_pico").fingerprint != task.fingerprint
    again = open_task(data, backbone="deit_pico", expected=task.fingerprint)
    assert again.fingerprint == task.fingerprint
    assert len(list(again.fresh_epoch(Epoch(number=1, seed=0, batch_size=16, num_images=64)))) == 4


def test_why_a_study_does_not_go_on() -> None:
    assert "has changed since study 's' was created" in changed_data("f", study="s", stored="2-abc", found="2-abd")
    assert "has changed since study 's' was created" in changed_data("digits", study="s", stored="abc", found="abd")
    said = changed_data("folder:/x", study="s", stored="abc", found="2-abc")
    assert "by an older version, which knew data by names and sizes" in said


@pytest.mark.parametrize("on_broken", ["stop", "skip"])
@pytest.mark.parametrize("how", ["replaced", "removed"])
def test_data_whose_broken_images_were_repaired_are_recognised(tmp_path: Path, on_broken: str, how: str) -> None:
    made = make_folder(tmp_path / "data", splits=("train", "val"), per_class=90)
    root, file = made.root, made.folders["train"] / "class1" / "031.png"
    other = made.folders["train"] / "class2" / "044.png"
    whole = file.read_bytes()
    file.write_bytes(whole[:45])
    spec = DataSpec.model_validate({"source": f"folder:{root}", "on_broken": on_broken})
    first = open_folder(root, spec, mode="RGB", contents=Contents(tmp_path))
    before = files_of(first)
    if on_broken == "stop":
        with pytest.raises(DataError, match="sparsesearch data check folder:"):
            [samples[index] for samples, order in (first.train, first.val) for index in order]
    file.unlink() if how == "removed" else file.write_bytes(whole)
    assert fingerprint(root, tmp_path, on_broken=on_broken) != first.fingerprint

    def again():
        found = Contents(tmp_path)
        return open_folder(root, spec, mode="RGB", contents=found, matches=lambda other: other == first.fingerprint)

    second = again()
    assert second.fingerprint == first.fingerprint
    assert f"of the broken images 1 {'removed' if how == 'removed' else 'repaired'}" in second.account.notes[0]
    after = files_of(second)
    is_used = on_broken == "stop" and how == "replaced"
    gone = (str(file), 0)
    kept = [part if is_used else [entry for entry in part if entry != gone] for part in before]
    assert [sorted(part) for part in after] == [sorted(part) for part in kept], "all others stay in their splits"
    other.write_bytes(whole)
    assert again().fingerprint != first.fingerprint, "an image that was not broken has changed"

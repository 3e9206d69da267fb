"""Files are written whole or not at all, whatever happens to the disk or the process."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest
from small_disk import small_disk

from sparsesearch.errors import InfrastructureError
from sparsesearch.files import leftovers as module
from sparsesearch.files.durable import create_private, make_folder, new_file, write_file
from sparsesearch.files.leftovers import leftovers, remove_leftovers, temporary_name
from sparsesearch.infrastructure import infrastructure_fault

KILLED = """
import os, signal, sys
from pathlib import Path
from sparsesearch.files.durable import new_file
with new_file(Path(sys.argv[1])) as file:
    file.write(b"half")
    file.flush()
    print("written", flush=True)
    os.kill(os.getpid(), getattr(signal, sys.argv[2]))
"""


@pytest.fixture(autouse=True)
def _looks_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look for leftovers at every write."""
    monkeypatch.setattr(module, "_looked_at", {})
    monkeypatch.setattr(module, "_LOOK_EVERY_S", 0.0)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def writer(path: Path, fate: str) -> subprocess.Popen[str]:
    """A process that ends or is stopped in the middle of a write."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path), fate], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "written\n"
    return process


def test_a_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "er" / "a.txt"
    write_file(path, "old")
    with new_file(path) as file:
        file.write(b"ne")
        assert path.read_text() == "old"
        file.write(b"w")
    assert path.read_text() == "new"
    assert names(path.parent) == ["a.txt"]


def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_file(path, "old")

    def interrupted() -> None:
        with new_file(path) as file:
            file.write(b"new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]


def test_a_full_disk_leaves_the_old_file_and_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        path = disk / "trial-00001.safetensors"
        write_file(path, bytes(30_000))
        with pytest.raises(OSError, match="No space left on device") as caught:
            write_file(path, b"1" * 60_000)
        assert caught.value.errno == errno.ENOSPC
        assert str(path) in str(caught.value)
        assert path.read_bytes() == bytes(30_000)
        assert names(disk) == [path.name]
        fault = infrastructure_fault(caught.value)
        assert isinstance(fault, InfrastructureError)
        assert str(path) in str(fault)
        assert "the disk is full" in str(fault)
        write_file(path, b"1" * 20_000)
        assert path.read_bytes() == b"1" * 20_000


def test_a_disk_without_room_for_another_name_leaves_the_old_file(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        path = disk / "a"
        write_file(path, "old")
        subprocess.run(["mount", "-o", "remount,nr_inodes=2", str(disk)], check=True)
        with pytest.raises(OSError, match="No space left on device") as caught:
            write_file(path, "new")
        assert str(caught.value.filename) == str(path)
        assert path.read_text() == "old"
        assert names(disk) == ["a"]


def test_a_read_only_disk_is_named(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", kilobytes=64) as disk:
        write_file(disk / "a", "old")
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        with pytest.raises(OSError, match="Read-only file system") as caught:
            write_file(disk / "a", "new")
        assert str(caught.value.filename) == str(disk / "a")
        assert "read-only" in str(infrastructure_fault(caught.value))
        assert (disk / "a").read_text() == "old"


@pytest.mark.parametrize("is_private", [False, True])
def test_modes(tmp_path: Path, is_private: bool) -> None:
    before = os.umask(0o022)
    try:
        path = tmp_path / "new" / "a"
        write_file(path, "a", is_private=is_private)
        assert (mode(path), mode(path.parent)) == ((0o600, 0o700) if is_private else (0o644, 0o755))
        path.chmod(0o664)
        write_file(path, "b", is_private=is_private)
        assert mode(path) == (0o600 if is_private else 0o664)
        assert mode(tmp_path) == mode(tmp_path), "what exists is left"
        os.umask(0o077)
        write_file(tmp_path / "b", "b")
        assert mode(tmp_path / "b") == 0o600
    finally:
        os.umask(before)


def test_links_stay_links_and_devices_are_written_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("old")
    link = tmp_path / "link"
    link.symlink_to("target")
    write_file(link, "new")
    assert link.is_symlink()
    assert (tmp_path / "target").read_text() == "new"
    write_file(Path("/dev/null"), "gone")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    with pytest.raises(OSError, match=r"/a'"):
        write_file(tmp_path / "a", "text")
    assert names(tmp_path) == ["a"]
    (tmp_path / "b").write_text("a file")
    with pytest.raises(NotADirectoryError):
        make_folder(tmp_path / "b")
    with pytest.raises(OSError, match="b"):
        write_file(tmp_path / "b" / "c", "text")


def test_names_of_any_length(tmp_path: Path) -> None:
    for name in ("n" * 255, "\N{SNOWMAN}" * 85, "\udcff" * 60, ".a.part"):
        write_file(tmp_path / name, "x")
        assert (tmp_path / name).read_text() == "x"
    assert len(names(tmp_path)) == 4


def test_a_killed_writer_leaves_the_old_file_and_the_next_writer_tidies_up(tmp_path: Path) -> None:
    path = tmp_path / "a"
    write_file(path, "old")
    process = writer(path, "SIGKILL")
    assert process.wait() == -signal.SIGKILL
    assert path.read_text() == "old"
    assert len(leftovers(tmp_path)) == 1
    write_file(tmp_path / "b", "another")
    assert names(tmp_path) == ["a", "b"]


def test_a_writer_that_lives_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "a"
    process = writer(path, "SIGSTOP")
    try:
        (partial,) = tmp_path.iterdir()
        os.utime(partial, (0, 0))
        assert leftovers(tmp_path) == []
        write_file(tmp_path / "b", "another")
        assert partial.exists()
        os.kill(process.pid, signal.SIGCONT)
        assert process.wait(timeout=30) == 0
        assert path.read_text() == "half"
    finally:
        process.kill()
        process.wait()


def test_a_file_of_another_host_is_left_alone_until_it_is_old(tmp_path: Path) -> None:
    parts = temporary_name("a").split(".")
    assert parts[-4] == module._host()
    parts[-4] = "0" * 12  # another host; the process id means nothing here
    theirs = tmp_path / ".".join(parts)
    theirs.write_text("half")
    remove_leftovers(tmp_path)
    assert theirs.exists()
    os.utime(theirs, (time.time() - module.OLD_S - 60,) * 2)
    remove_leftovers(tmp_path)
    assert not theirs.exists()


@pytest.mark.parametrize("name", ["a.part", ".a.part", "epoch.part", ".hidden.1.part.gz", "x.12.partial"])
def test_files_of_others_are_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("theirs")
    os.utime(tmp_path / name, (0, 0))
    remove_leftovers(tmp_path)
    assert (tmp_path / name).exists()


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    """The file is always one of what was written, and no temporary file is left."""
    code = (
        "import sys; from pathlib import Path; from sparsesearch.files.durable import write_file\n"
        "for _ in range(50): write_file(Path(sys.argv[1]), sys.argv[2] * 100_000, is_synced=False)"
    )
    path = tmp_path / "a"
    write_file(path, "0" * 100_000)
    processes = [subprocess.Popen([sys.executable, "-c", code, str(path), str(n)]) for n in range(3)]
    while any(process.poll() is None for process in processes):
        found = path.read_text()
        assert (len(found), len(set(found))) == (100_000, 1)
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert names(tmp_path) == ["a"]


def test_a_file_for_a_library_to_fill(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.db"
    create_private(path)
    assert (mode(path.parent), mode(path), path.read_bytes()) == (0o700, 0o600, b"")
    path.write_text("filled")
    path.chmod(0o640)
    create_private(path)
    assert (mode(path), path.read_text()) == (0o640, "filled")

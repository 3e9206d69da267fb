"""Which exceptions are faults of disks, mounts, networks and machines, and which are not."""

from __future__ import annotations

import errno
import pickle
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from ray.exceptions import RayTaskError
from safetensors.torch import save_file
from small_disk import small_disk
from sqlalchemy import create_engine, text

from sparsesearch.errors import CheckpointError, DataError, InfrastructureError
from sparsesearch.infrastructure import infrastructure_fault

FAULTS = [
    (OSError(errno.ENOSPC, "No space left on device", "/x/trial.safetensors"), "disk is full"),
    (OSError(errno.EDQUOT, "Disk quota exceeded"), "quota"),
    (OSError(errno.EIO, "Input/output error"), "disk failed"),
    (OSError(errno.EROFS, "Read-only file system"), "read-only"),
    (OSError(errno.ESTALE, "Stale file handle"), "gone away"),
    (OSError(errno.ENOTCONN, "Transport endpoint is not connected"), "gone away"),
    (OSError(errno.EHOSTDOWN, "Host is down"), "network"),
    (OSError(errno.ETIMEDOUT, "Connection timed out"), "network"),
    (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "network"),
    (ConnectionRefusedError("without a number"), "network"),
    (OSError(errno.EMFILE, "Too many open files"), "ulimit"),
    (OSError(errno.ENOMEM, "Cannot allocate memory"), "memory"),
    (RuntimeError("unable to write to file </torch_1_2_3>: No space left on device (28)"), "disk is full"),
    (RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. "), "killed a process"),
    (RuntimeError("CUDA error: uncorrectable ECC error encountered"), "GPU"),
    (RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [10.0.0.7]:3921"), "network"),
]
NO_FAULTS = [
    FileNotFoundError(errno.ENOENT, "No such file or directory", "/data/train"),
    PermissionError(errno.EACCES, "Permission denied", "/data/train"),
    IsADirectoryError(errno.EISDIR, "Is a directory", "/data"),
    OSError("an image that cannot be identified"),
    FloatingPointError("the loss is not finite"),
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:117] can't allocate memory: Error code 12 (Cannot allocate memory)"),
    RuntimeError("mat1 and mat2 shapes cannot be multiplied (8x16 and 32x8)"),
    ValueError("No space left on device"),
    DataError("no images in /data"),
    KeyboardInterrupt(),
]


def ids(error: object) -> str | None:
    return repr(error)[:40] if isinstance(error, BaseException) else None


@pytest.mark.parametrize(("error", "said"), FAULTS, ids=ids)
def test_a_fault_is_told_by_the_exception(error: Exception, said: str) -> None:
    found = infrastructure_fault(error)
    assert isinstance(found, InfrastructureError)
    assert said in str(found)
    assert "\n" not in str(found)
    assert (
        str(error.args[-1] if error.errno is None else error.strerror) in str(found)
        if isinstance(error, OSError)
        else str(error).strip() in str(found)
    )


@pytest.mark.parametrize(("error", "said"), FAULTS, ids=ids)
def test_what_was_raised_from_a_fault_is_one(error: Exception, said: str) -> None:
    wrapped = CheckpointError("cannot read the checkpoint")
    wrapped.__cause__ = DataError("between")
    wrapped.__cause__.__cause__ = error
    assert said in str(infrastructure_fault(wrapped))


@pytest.mark.parametrize("error", NO_FAULTS, ids=ids)
def test_everything_else_is_not(error: BaseException) -> None:
    assert infrastructure_fault(error) is None
    wrapped = CheckpointError("cannot read the checkpoint")
    wrapped.__cause__ = error
    assert infrastructure_fault(wrapped) is None


@pytest.mark.parametrize(("error", "said"), FAULTS, ids=ids)
def test_a_fault_that_was_dealt_with_is_none(error: Exception, said: str) -> None:
    """An exception is not a fault because another one was being handled when it was raised."""
    later = FloatingPointError("the loss is not finite")
    later.__context__ = error
    assert infrastructure_fault(later) is None


def test_a_fault_stays_what_it_is() -> None:
    fault = InfrastructureError("the disk is full")
    assert infrastructure_fault(fault) is fault
    wrapped = RuntimeError("a trial")
    wrapped.__cause__ = fault
    assert infrastructure_fault(wrapped) is fault


def test_chains_that_end_where_they_began_end() -> None:
    one, two = RuntimeError("one"), RuntimeError("two")
    one.__cause__, two.__cause__ = two, one
    assert infrastructure_fault(one) is None


def test_faults_of_other_processes_are_told_as_well() -> None:
    """Ray pickles the exception and wraps it."""
    error = pickle.loads(pickle.dumps(OSError(errno.ENOSPC, "No space left on device", "/x")))
    assert "disk is full" in str(infrastructure_fault(RayTaskError("work", "a traceback", error)))


def test_a_missing_file_counts_where_its_filesystem_has_gone_away(tmp_path: Path) -> None:
    there, gone = tmp_path, tmp_path / "mount" / "study"
    with pytest.raises(FileNotFoundError) as raised:
        (gone / "trial-00001.safetensors").read_bytes()
    assert infrastructure_fault(raised.value) is None
    assert infrastructure_fault(raised.value, folders=[there]) is None
    found = str(infrastructure_fault(raised.value, folders=[there, gone]))
    assert f"{gone} has gone away" in found
    assert infrastructure_fault(FloatingPointError("the loss is not finite"), folders=[gone]) is None


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A mounted disk of 64 kB, with 4 kB left."""
    with small_disk(tmp_path / "disk", kilobytes=64) as place:
        (place / "filling").write_bytes(bytes(56 * 1024))
        yield place


def test_libraries_on_a_full_disk(full_disk: Path) -> None:
    """The exceptions of the installed versions of safetensors, torch and SQLite, as they are raised."""
    tensors = {"a": torch.zeros(1 << 20)}
    connection = sqlite3.connect(full_disk / "x.db")
    engine = create_engine(f"sqlite:///{full_disk}/y.db")

    def many_rows() -> None:
        connection.execute("CREATE TABLE t AS SELECT zeroblob(1000000)")
        connection.commit()

    def many_rows_by_sqlalchemy() -> None:
        with engine.begin() as open_connection:
            open_connection.execute(text("CREATE TABLE t AS SELECT zeroblob(1000000)"))

    for write in (
        lambda: save_file(tensors, full_disk / "a.safetensors"),
        lambda: torch.save(tensors, full_disk / "a.pt"),
        lambda: (full_disk / "a.bin").write_bytes(bytes(1 << 20)),
        many_rows,
        many_rows_by_sqlalchemy,
    ):
        with pytest.raises(Exception) as raised:  # noqa: PT011
            write()
        assert not isinstance(raised.value, AssertionError)
        assert "disk is full" in str(infrastructure_fault(raised.value)), repr(raised.value)
        for left in full_disk.glob("a.*"):
            left.unlink()
    connection.close()
    engine.dispose()

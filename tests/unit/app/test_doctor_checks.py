"""Each check of `doctor` finds what is really broken, and says how to fix it."""

from __future__ import annotations

import json
import multiprocessing
import os
import resource
import shutil
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from small_disk import small_disk

import sparsesearch
from sparsesearch.app.doctor import checks, disks, examine, installation, machine, permissions, study_database
from sparsesearch.app.doctor.checks import CHECKS
from sparsesearch.app.doctor.device import device
from sparsesearch.app.doctor.finding import FailedCheckError, Finding, Surroundings
from sparsesearch.app.doctor.tracking_server import mlflow
from sparsesearch.errors import ClusterError, SpecError, StoreError, TrackingError
from sparsesearch.settings import Settings
from sparsesearch.store import filesystem
from sparsesearch.store.sql import open_store

SNAPSHOTS = Path(__file__).parents[2] / "migrations"
PACKAGE = Path(sparsesearch.__file__).parent


@pytest.fixture
def here(tmp_path: Path) -> Surroundings:
    home = tmp_path / "home"
    return Surroundings(
        settings=Settings(home=home, database_url=f"sqlite:///{home / 'studies.db'}"), storage=home / "storage"
    )


def at(here: Surroundings, **settings: object) -> Surroundings:
    return here.model_copy(update={"settings": here.settings.model_copy(update=settings)})


def dead_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def silent_server() -> Iterator[int]:
    """A server that accepts connections and never answers."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(16)
        yield int(server.getsockname()[1])


def finding_of(here: Surroundings, name: str, *, timeout_s: float = 60.0, **environment: str) -> Finding:
    """The finding of one check in a process of its own."""
    check = next(each for each in CHECKS if each.name == name)
    before = dict(os.environ)
    os.environ.update(environment)
    try:
        return examine._run(check, here, timeout_s=timeout_s)
    finally:
        os.environ.clear()
        os.environ.update(before)


def test_every_check_has_a_name_a_function_and_a_fix() -> None:
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    for check in CHECKS:
        module, _, function = check.function.partition(":")
        assert f"def {function}(" in (PACKAGE / "app" / "doctor" / f"{module}.py").read_text()
        assert check.fix
        assert check.timeout_s <= 90


class TestInstallation:
    def test_a_package_without_its_folders(self, here: Surroundings, tmp_path: Path) -> None:
        shutil.copytree(PACKAGE, tmp_path / "sparsesearch", ignore=shutil.ignore_patterns("__pycache__", "_bundled"))
        done = subprocess.run(
            [sys.executable, "-m", "sparsesearch.app.doctor", "installation:installation"],
            input=here.model_dump_json(),
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        found = json.loads(done.stdout)
        assert not found["ok"]
        assert "'spaces' is missing" in found["detail"]
        assert "pip install" in found["fix"]

    def test_this_one(self, here: Surroundings) -> None:
        assert str(PACKAGE) in installation.installation(here)
        assert "all in the required versions" in installation.versions(here)

    def test_another_version_of_a_package(
        self, here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, number in (("numpy", "1.2"), ("timm", "0.4.12")):
            folder = tmp_path / "site" / f"{name}-{number}.dist-info"
            folder.mkdir(parents=True)
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")
        monkeypatch.syspath_prepend(tmp_path / "site")
        with pytest.raises(FailedCheckError, match=r"numpy 1\.2 is not >=1\.26, timm 0\.4\.12 is not >=") as caught:
            installation.versions(here)
        assert "pip install" in caught.value.fix


class TestDevice:
    def test_one_that_is_not_there(self, here: Surroundings) -> None:
        with pytest.raises(SpecError, match=r"no device cuda:77"):
            device(here.model_copy(update={"device": "cuda:77"}))

    def test_a_gpu_that_torch_cannot_use(
        self, here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        program = tmp_path / "bin" / "nvidia-smi"
        program.parent.mkdir()
        program.write_text("#!/bin/sh\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        found = finding_of(here, "device")
        assert not found.ok
        assert "nvidia-smi" in found.detail
        assert "--device cpu" in found.fix
        assert "on the CPU with" in device(here.model_copy(update={"device": "cpu"}))


class TestDatabase:
    def test_a_new_one_is_not_created(self, here: Surroundings) -> None:
        assert "does not exist yet" in study_database.database(here)
        assert not here.settings.home.exists()

    def test_one_that_can_be_written_is_not_changed(self, here: Surroundings) -> None:
        open_store(here.settings.database_url).close()
        path = here.settings.home / "studies.db"
        before = path.read_bytes()
        assert "can be written" in study_database.database(here)
        assert path.read_bytes() == before

    def test_a_file_that_is_no_database(self, here: Surroundings) -> None:
        here.settings.home.mkdir()
        (here.settings.home / "studies.db").write_text("text " * 1000)
        with pytest.raises(StoreError, match="is not a readable SQLite database"):
            study_database.database(here)
        found = finding_of(here, "database")
        assert (found.ok, found.fix) == (False, "use another file or restore a backup")

    def test_one_of_an_older_version(self, here: Surroundings) -> None:
        here.settings.home.mkdir()
        shutil.copy(SNAPSHOTS / "0001.db", here.settings.home / "studies.db")
        with pytest.raises(FailedCheckError, match="is at revision 0001") as caught:
            study_database.database(here)
        assert "sparsesearch db upgrade" in caught.value.fix

    def test_one_that_another_process_has_locked(self, here: Surroundings) -> None:
        open_store(here.settings.database_url).close()
        other = sqlite3.connect(here.settings.home / "studies.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        found = finding_of(here, "database", timeout_s=5.0)
        other.close()
        assert (found.ok, found.detail) == (False, "no answer within 5 s")

    def test_a_server_that_is_not_there(self, here: Surroundings) -> None:
        found = finding_of(at(here, database_url=f"postgresql://me:hidden@127.0.0.1:{dead_port()}/x"), "database")
        assert not found.ok
        assert "refused" in found.detail
        assert "check that the server is running" in found.fix
        assert "hidden" not in found.model_dump_json()

    def test_a_server_that_does_not_answer(self, here: Surroundings) -> None:
        with silent_server() as port:
            started = time.monotonic()
            found = finding_of(
                at(here, database_url=f"postgresql://me:hidden@127.0.0.1:{port}/x"), "database", timeout_s=4.0
            )
        assert time.monotonic() - started < 12
        assert (found.ok, found.detail) == (False, "no answer within 4 s")
        assert "SPARSESEARCH_DATABASE_URL" in found.fix

    @pytest.mark.parametrize("url", ["mysql://me@host/x", "nonsense", "sqlite://", "sqlite:///a?b=c"])
    def test_an_address_that_is_none(self, here: Surroundings, url: str) -> None:
        for name in ("database", "database folder", "network filesystem", "permissions"):
            found = finding_of(at(here, database_url=url), name)
            assert found.ok == (name != "database"), found


class TestMlflow:
    def test_a_server_that_is_not_there(self, here: Surroundings) -> None:
        with pytest.raises(TrackingError, match="does not respond"):
            mlflow(at(here, mlflow_tracking_uri=f"http://127.0.0.1:{dead_port()}"))

    def test_one_that_is_not_mlflow(self, here: Surroundings) -> None:
        class Page(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()
                self.wfile.write(b"<html>please log in</html>")

            do_POST = do_GET

            def log_message(self, *arguments: object) -> None:
                pass

        server = HTTPServer(("127.0.0.1", 0), Page)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        found = finding_of(at(here, mlflow_tracking_uri=f"http://127.0.0.1:{server.server_port}"), "mlflow")
        server.shutdown()
        assert not found.ok
        assert "not MLflow" in found.detail

    def test_one_that_does_not_answer(self, here: Surroundings) -> None:
        with silent_server() as port:
            found = finding_of(at(here, mlflow_tracking_uri=f"http://127.0.0.1:{port}"), "mlflow", timeout_s=8.0)
        assert (found.ok, found.detail) == (False, "no answer within 8 s")
        assert "--no-mlflow" in found.fix

    def test_our_own(self, here: Surroundings, mlflow_tables: Path) -> None:
        assert "does not exist yet" in mlflow(here)
        assert not here.settings.home.exists()
        here.settings.home.mkdir()
        shutil.copy(mlflow_tables, here.settings.home / "mlflow.db")
        assert "can be written" in mlflow(here)


class TestRay:
    def test_a_cluster_that_is_not_there(self, here: Surroundings) -> None:
        from sparsesearch.app.doctor.cluster import cluster

        with pytest.raises(ClusterError, match="no Ray cluster at"):
            cluster(here.model_copy(update={"ray_address": f"127.0.0.1:{dead_port()}"}))


class TestDisks:
    def test_a_full_one(self, here: Surroundings, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", kilobytes=64) as disk:
            (disk / "filling").write_bytes(bytes(64 * 1024))
            full = here.model_copy(update={"storage": disk / "storage"})
            with pytest.raises(FailedCheckError, match="is full") as caught:
                disks.storage(full)
            assert "--storage PATH" in caught.value.fix
            (disk / "filling").unlink()
            with pytest.raises(FailedCheckError, match=r"has 0 MB free, and a study needs 5\.0 GB"):
                disks.storage(full)

    def test_one_without_room_for_names(self, here: Surroundings, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", kilobytes=64) as disk:
            subprocess.run(["mount", "-o", "remount,size=20g,nr_inodes=500", str(disk)], check=True)
            with pytest.raises(FailedCheckError, match="room for only"):
                disks.storage(here.model_copy(update={"storage": disk}))

    def test_a_read_only_one(self, here: Surroundings, tmp_path: Path) -> None:
        with small_disk(tmp_path / "disk", kilobytes=64) as disk:
            subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
            with pytest.raises(FailedCheckError, match=r"cannot write to .*Read-only file system") as caught:
                disks.home(at(here, home=disk))
            assert "SPARSESEARCH_HOME" in caught.value.fix

    def test_a_file_in_place_of_a_folder(self, here: Surroundings, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("")
        with pytest.raises(FailedCheckError, match="is a file, not a folder"):
            disks.storage(here.model_copy(update={"storage": tmp_path / "file" / "storage"}))

    def test_nothing_is_left(self, here: Surroundings, tmp_path: Path) -> None:
        assert "to be created in" in disks.home(here)
        assert list(tmp_path.iterdir()) == []

    def test_little_shared_memory(self, here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with small_disk(tmp_path / "shm", kilobytes=64) as disk:
            monkeypatch.setattr(disks, "SHARED_MEMORY", disk)
            with pytest.raises(FailedCheckError, match="a study needs") as caught:
                disks.shared_memory(here)
            assert "--shm-size" in caught.value.fix

    def test_a_network_filesystem(self, here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        mounts = tmp_path / "mounts"
        mounts.write_text(f"/dev/x / ext4 rw 0 0\nserver:/x {tmp_path} nfs4 rw 0 0\n")
        monkeypatch.setattr(filesystem, "_MOUNTS", mounts)
        with pytest.raises(FailedCheckError, match=r"on a network filesystem \(nfs4\)") as caught:
            disks.network_filesystem_check(here)
        assert "PostgreSQL" in caught.value.fix
        on_server = at(here, database_url="postgresql://me@host/x", mlflow_tracking_uri="http://host")
        assert disks.network_filesystem_check(on_server) == "no SQLite file is used"

    def test_what_killed_writers_left(self, here: Surroundings) -> None:
        code = (
            "import os, signal, sys; from pathlib import Path; from sparsesearch.files.durable import new_file\n"
            "with new_file(Path(sys.argv[1])) as file:\n"
            "    file.truncate(200_000_000)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)"
        )
        assert disks.leftover_files(here) == "none"
        target = here.storage / "study-01234567" / "dense.safetensors"
        done = subprocess.run([sys.executable, "-c", code, str(target)], check=False)
        assert done.returncode == -signal.SIGKILL
        with pytest.raises(FailedCheckError, match=r"1 temporary file of killed processes with 0\.2 GB") as caught:
            disks.leftover_files(here)
        command = caught.value.fix.rpartition(": ")[2]
        subprocess.run(command, shell=True, check=True)
        assert disks.leftover_files(here) == "none"


class TestPermissions:
    def test_a_database_that_all_can_read(self, here: Surroundings) -> None:
        open_store(here.settings.database_url).close()
        here.settings.home.chmod(0o755)
        path = here.settings.home / "studies.db"
        path.chmod(0o644)
        with pytest.raises(FailedCheckError, match=r"studies\.db is open to everybody \(mode 0644\)") as caught:
            permissions.permissions(here)
        subprocess.run(caught.value.fix, shell=True, check=True)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "open to this user alone" in permissions.permissions(here)

    def test_checkpoints_that_the_group_can_read(self, here: Surroundings) -> None:
        folder = here.storage / "study-01234567"
        folder.mkdir(parents=True)
        for path in (here.settings.home, here.storage):
            path.chmod(0o755)
        folder.chmod(0o750)
        with pytest.raises(FailedCheckError, match=r"study-01234567 is open to the group \(mode 0750\)"):
            permissions.permissions(here)
        here.settings.home.chmod(0o700)
        assert "alone" in permissions.permissions(here), "nobody else can enter the home"

    def test_files_of_another_user(self, here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
        (here.storage / "study-01234567").mkdir(parents=True)
        monkeypatch.setattr(permissions, "_user", lambda: os.geteuid() + 1)
        with pytest.raises(FailedCheckError, match="belongs to user"):
            permissions.permissions(here)


class TestMachine:
    def test_a_clock_before_the_installation(self, here: Surroundings, monkeypatch: pytest.MonkeyPatch) -> None:
        assert "the storage's is" in machine.clock(here)
        monkeypatch.setattr("sparsesearch.app.doctor.machine.time.time", lambda: 1e9)
        with pytest.raises(FailedCheckError, match="before sparsesearch was installed") as caught:
            machine.clock(here)
        assert "timedatectl" in caught.value.fix

    def test_processes_that_cannot_start(self, here: Surroundings) -> None:
        assert "a process starts in" in machine.loader(here)
        before = multiprocessing.spawn.get_executable()
        multiprocessing.set_executable(shutil.which("false") or "/bin/false")
        try:
            with pytest.raises(FailedCheckError, match="ended with exit code 1") as caught:
                machine.loader(here)
        finally:
            multiprocessing.set_executable(before)
        assert "--data-workers 0" in caught.value.fix

    def test_few_open_files(self, here: Surroundings) -> None:
        before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
        try:
            with pytest.raises(FailedCheckError, match="may open only 256 files") as caught:
                machine.open_files(here)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, before)
        assert f"ulimit -n {before[1]}" in caught.value.fix


class TestProcesses:
    """A check that hangs, dies or raises is a finding."""

    def check(self, here: Surroundings, code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Finding:
        program = tmp_path / "python"
        program.write_text(f"#!/bin/sh\n{code}\n")
        program.chmod(0o755)
        monkeypatch.setattr(sys, "executable", str(program))
        return examine._run(checks.Check("x", "a:b", "the fix"), here, timeout_s=2.0)

    def test_one_that_hangs_with_its_children(
        self, here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        found = self.check(here, f"sleep 60 & echo $! > {tmp_path}/child; wait", tmp_path, monkeypatch)
        assert found == Finding(check="x", ok=False, detail="no answer within 2 s", fix="the fix")
        child = int((tmp_path / "child").read_text())
        until = time.monotonic() + 10
        while Path(f"/proc/{child}").exists() and time.monotonic() < until:
            time.sleep(0.05)
        assert not Path(f"/proc/{child}").exists()

    def test_one_that_dies(self, here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        found = self.check(here, "kill -SEGV $$", tmp_path, monkeypatch)
        assert found == Finding(check="x", ok=False, detail="the check was ended by SIGSEGV", fix="the fix")

    def test_one_that_raises(self, here: Surroundings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        code = "echo Traceback >&2; echo 'ValueError: postgresql://a:hidden@b' >&2; exit 1"
        found = self.check(here, code, tmp_path, monkeypatch)
        assert found.detail == "ValueError: postgresql://a:***@b"
        assert self.check(here, "exit 3", tmp_path, monkeypatch).detail == "the check ended with exit code 3"

"""A real study on Ray: in parallel, equal to one run inline, and unharmed by kill -9 of its processes."""

from __future__ import annotations

import os
import random
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray_driver
import torch
from noting import Note, read_notes

import sparsesearch
from sparsesearch.evaluate.opening import open_evaluator, portable_evaluator
from sparsesearch.store.sql import open_store
from sparsesearch.trial import Fidelity, Trial, TrialState

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "RAY_AUTH_MODE": "token",  # as docs/ray.md has it for several machines
    "RAY_AUTH_TOKEN": secrets.token_hex(32),
    "PYTHONPATH": os.pathsep.join([str(HERE), str(Path(sparsesearch.__file__).parents[1])]),
}
MARK = f"SPARSESEARCH_TEST={os.getpid()}"
FINAL = {TrialState.COMPLETE, TrialState.REFERENCE}
_MEET_S = 120.0


def processes() -> dict[int, str]:
    """All processes that carry this test's mark in their environment, with their names."""
    found = {}
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and MARK.encode() in (entry / "environ").read_bytes():
                found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue  # it ended meanwhile
    return {pid: name for pid, name in found.items() if name and pid != os.getpid()}


@pytest.fixture(autouse=True)
def nothing_outlives() -> Iterator[None]:
    """No process of a test is there when it has ended, whatever was killed."""
    yield
    deadline = time.monotonic() + 60
    while processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    left = processes()
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert not left


def start(home: Path, *arguments: str, cwd: Path | None = None, meet_s: float = 0.0) -> subprocess.Popen[bytes]:
    environment = {**ENVIRONMENT, "SPARSESEARCH_TEST": MARK.partition("=")[2], "MEET_S": str(meet_s)}
    command = [sys.executable, str(HERE / "ray_driver.py"), str(home), *arguments]
    return subprocess.Popen(
        command,
        env=environment,
        cwd=cwd,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # a job may ignore it
    )


def finish(driver: subprocess.Popen[bytes]) -> None:
    """Wait for a driver that should end well."""
    _, errors = driver.communicate(timeout=600)
    assert driver.returncode == 0, errors.decode()


def notes_of(home: Path) -> list[Note]:
    return read_notes(home / "notes")


def trials_of(home: Path) -> list[Trial]:
    return list(open_store(f"sqlite:///{home}/studies.db").trials(ray_driver.NAME))


def wait_for(home: Path, wanted: Callable[[list[Note]], bool], driver: subprocess.Popen[bytes]) -> None:
    while not wanted(notes_of(home)):
        assert driver.poll() is None, "the driver ended before"
        time.sleep(0.01)


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of a study on Ray that was left alone."""
    home = tmp_path_factory.mktemp("calm")
    finish(start(home, meet_s=_MEET_S))
    return home


def check_complete(home: Path) -> list[Trial]:
    """No trial lost, none doubled, none stuck."""
    trials = trials_of(home)
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert {trial.state for trial in trials} == FINAL
    assert len({(trial.fidelity, trial.key) for trial in trials}) == len(trials)
    counts = Counter(trial.fidelity for trial in trials)
    assert counts == {Fidelity.DENSE: 1, Fidelity.ELASTIC: 1, Fidelity.SUPERNET: 6, Fidelity.FINETUNE: 4}
    for trial in trials:
        steps = [0] if trial.fidelity is Fidelity.SUPERNET else [1, 2]
        assert [measurement.step for measurement in trial.measurements] == steps
    return trials


def test_trials_overlap_in_processes_of_their_own(calm: Path) -> None:
    check_complete(calm)
    assert os.getpid() not in {note.pid for note in notes_of(calm)}
    spans: dict[int, list[float]] = {}
    for note in notes_of(calm):
        if note.fidelity == "finetune":
            spans.setdefault(note.trial, []).append(note.at)
    ends = [(min(times), max(times)) for times in spans.values()]
    assert max(sum(start <= moment <= end for start, end in ends) for moment, _ in ends) == 2
    for fidelity in ("supernet", "finetune"):
        assert len({note.pid for note in notes_of(calm) if note.fidelity == fidelity}) == 2


def test_results_are_those_of_the_inline_dispatcher(calm: Path, tmp_path: Path) -> None:
    """Every trial of the parallel study, evaluated again one by one in this process, gives the same numbers."""
    torch.set_num_threads(1)
    spec = ray_driver.open_or_create(calm)
    recipe = portable_evaluator(spec, storage=tmp_path / "storage", cache=tmp_path / "cache", elapsed_s=0.0)
    evaluator = open_evaluator(recipe.document)
    for trial in trials_of(calm):
        fresh = trial.model_copy(update={"measurements": (), "checkpoint": None, "state": TrialState.RUNNING})
        events = list(evaluator.evaluate(fresh))
        found = {event.measurement.step: event.measurement.metrics for event in events if event.kind == "measured"}
        assert found == {measurement.step: measurement.metrics for measurement in trial.measurements}, trial.label


def test_killed_worker_processes_are_replaced(tmp_path: Path) -> None:
    driver = start(tmp_path)
    for fidelity in ("dense", "supernet", "finetune"):
        wait_for(tmp_path, lambda notes, f=fidelity: any(note.fidelity == f for note in notes), driver)
        worker = next(note.pid for note in reversed(notes_of(tmp_path)) if note.fidelity == fidelity)
        os.kill(worker, signal.SIGKILL)
    finish(driver)
    trials = check_complete(tmp_path)
    retried = [trial for trial in trials if trial.attempt > 1]
    assert {trial.fidelity for trial in retried} >= {Fidelity.DENSE, Fidelity.FINETUNE}
    assert all("the worker process died" in (trial.reason or "") for trial in retried)


def gaps() -> list[int]:
    """After how many notes the driver is killed, each time counted from its start."""
    draw = random.Random(11).randint
    return [draw(1, 5) for _ in range(10)]


def test_killed_driver_goes_on(calm: Path, tmp_path: Path) -> None:
    """Killed with -9 ten times, each time resumed: nothing lost, doubled or stuck, little repeated."""
    under_way: Counter[int] = Counter()
    for kill, gap in enumerate(gaps()):
        before = len(notes_of(tmp_path)) if (tmp_path / "notes").exists() else 0
        driver = start(tmp_path)
        wait_for(tmp_path, lambda notes, n=before + gap: len(notes) >= n, driver)
        driver.kill()
        driver.wait()
        recorded = trials_of(tmp_path)
        under_way.update(trial.number for trial in recorded if trial.state is TrialState.RUNNING)
        if kill == 0:  # later ones are resumed while Ray's processes are still ending themselves
            while processes():
                time.sleep(0.1)
            assert trials_of(tmp_path) == recorded, "workers of a dead driver write nothing"
    finish(start(tmp_path))
    trials = check_complete(tmp_path)
    assert {trial.attempt for trial in trials} == {1}
    for mine, theirs in zip(trials[:2], trials_of(calm)[:2], strict=True):
        assert [m.metrics for m in mine.measurements] == [m.metrics for m in theirs.measurements]
    measured = Counter((note.trial, note.step) for note in notes_of(tmp_path) if note.what == "measured")
    repeated: Counter[int] = Counter()
    for (number, _), times in measured.items():
        repeated[number] += times - 1
    for number, times in repeated.items():
        assert times <= under_way[number], "at most one epoch is repeated each time that a trial is interrupted"


def test_ctrl_c_stops_where_nothing_is_lost(tmp_path: Path) -> None:
    driver = start(tmp_path)
    wait_for(tmp_path, lambda notes: any(note.fidelity == "finetune" for note in notes), driver)
    driver.send_signal(signal.SIGINT)
    assert driver.wait(timeout=120) == 130
    running = [trial for trial in trials_of(tmp_path) if trial.state is TrialState.RUNNING]
    assert running
    assert all(trial.checkpoint is not None and trial.checkpoint.step == trial.epochs_done for trial in running)
    finish(start(tmp_path))
    check_complete(tmp_path)
    epochs = Counter((n.trial, n.step) for n in notes_of(tmp_path) if n.what == "measured")
    assert set(epochs.values()) == {1}


@contextmanager
def two_nodes(folder: Path, cwds: tuple[Path, Path]) -> Iterator[str]:
    """Two Ray nodes on this machine, each with folders and a working directory of its own; the head's address."""
    ray_program = [sys.executable, "-m", "ray.scripts.scripts"]
    environment = {
        **ENVIRONMENT,
        "SPARSESEARCH_TEST": MARK.partition("=")[2],
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",
    }
    port = random.Random(os.getpid()).randint(20000, 30000)
    shared = [
        "--node-ip-address",
        "127.0.0.1",
        "--num-cpus",
        "1",
        "--object-store-memory",
        "100000000",
        "--block",
        "--disable-usage-stats",
    ]
    head = ["start", "--head", "--port", str(port), "--include-dashboard", "false"]
    nodes: list[subprocess.Popen[bytes]] = []
    temporaries: list[str] = []
    try:
        for number, options in enumerate([head, ["start", "--address", f"127.0.0.1:{port}"]]):
            temporary = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # a socket's path must be short
            temporaries.append(temporary)
            command = [*ray_program, *options, *shared, "--temp-dir", temporary]
            log = folder / f"node-{number}.log"
            with log.open("wb") as file:
                nodes.append(subprocess.Popen(command, env=environment, cwd=cwds[number], stdout=file, stderr=file))
            while "Ray runtime started" not in log.read_text(encoding="utf-8"):
                assert nodes[-1].poll() is None, log.read_text(encoding="utf-8")
                time.sleep(0.1)
        yield f"127.0.0.1:{port}"
    finally:
        for node in reversed(nodes):
            node.terminate()
        for node in nodes:
            node.wait(timeout=60)
        for temporary in temporaries:
            shutil.rmtree(temporary, ignore_errors=True)


def test_study_over_two_nodes(tmp_path: Path) -> None:
    for name in ("a", "b", "home"):
        (tmp_path / name).mkdir()
    with two_nodes(tmp_path, cwds=(tmp_path / "a", tmp_path / "b")) as address:
        # A path that is another folder in each process, as one that is not mounted everywhere.
        driver = start(tmp_path / "home", address, "/proc/self/cwd/storage", cwd=tmp_path / "a")
        _, errors = driver.communicate(timeout=300)
        complaint = errors.decode().splitlines()[-1]
        assert driver.returncode == 1
        assert re.fullmatch(r".*ClusterError: the storage /proc/self/cwd/storage is not shared with .*", complaint)
        assert {trial.state for trial in trials_of(tmp_path / "home")} <= {TrialState.WAITING}
        assert list((tmp_path / "a/storage").iterdir()) == [], "the probe is taken away"

        finish(start(tmp_path / "home", address, meet_s=_MEET_S))
        trials = check_complete(tmp_path / "home")
        assert {trial.attempt for trial in trials} == {1}
    nodes = {note.node for note in notes_of(tmp_path / "home") if note.fidelity == "finetune"}
    assert len(nodes) == 2

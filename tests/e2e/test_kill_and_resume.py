"""kill -9 at any moment loses at most the epoch under way, and the study ends with the same bytes in its tables."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sparsesearch.store.tables import CLOCK_COLUMNS

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).with_name("killing_driver.py")
NUM_RESCORED = 4
NUM_TRAINED, NUM_SCREENED, NUM_FINETUNED = 2, 12, 11  # one of the last is the dense model, with the same training
NUM_REFERENCE_STEPS = 12
Job = Callable[..., int]


def points() -> list[str]:
    """Where to kill, see the driver; the counts are drawn within dense training, supernet training and so on."""
    draw = random.Random(6).randint
    return [
        f"step:{draw(1, 6)}",
        f"step:{draw(7, 12)}",
        f"step:{draw(13, 12 + 4 * NUM_FINETUNED)}",
        f"after-measured-dense:{draw(1, 2)}",
        f"after-measured-finetune:{draw(1, 2 * NUM_FINETUNED)}",
        f"before-checkpointed-supernet_training:{draw(1, 2)}",
        f"after-checkpointed-finetune:{2 * draw(1, NUM_FINETUNED)}",
        "before-ended-supernet_training:1",
        f"after-ended:{draw(1, NUM_TRAINED + NUM_SCREENED + NUM_FINETUNED)}",
        f"after-claimed-supernet:{draw(1, NUM_SCREENED)}",
        "writing:1",
        f"writing:{draw(5, 2 * NUM_FINETUNED)}",
    ]


@pytest.fixture(scope="module")
def job() -> Iterator[Job]:
    """Runs or resumes the study in a home, in a process of its own; returns that process's exit code."""
    # One thread: how sums are split over threads changes their last bits.
    with subprocess.Popen(
        [sys.executable, str(DRIVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    ) as driver:
        assert driver.stdin is not None
        assert driver.stdout is not None

        def run(home: Path, verb: str, *, kill: str | None = None, save_every_s: float = 300.0) -> int:
            document = {"home": str(home), "verb": verb, "kill": kill, "save_every_s": save_every_s}
            driver.stdin.write(json.dumps(document) + "\n")
            driver.stdin.flush()
            answer = driver.stdout.readline()
            assert answer, "the driver has died; its standard error says why"
            return int(answer)

        yield run


@pytest.fixture(scope="module")
def calm(job: Job, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Home of a study that was left alone."""
    home = tmp_path_factory.mktemp("calm")
    assert job(home, "run") == 0
    return home


def tables(home: Path) -> dict[str, list[str]]:
    """Every table but the leases, row by row as SQL literals, without clocks."""
    connection = sqlite3.connect(home / "studies.db")
    names = [row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    assert set(CLOCK_COLUMNS) < set(names)
    found = {}
    for name in names:
        columns = [row[1] for row in connection.execute(f"PRAGMA table_info({name})")]
        kept = [column for column in columns if column not in CLOCK_COLUMNS.get(name, ())]
        if kept:
            text = " || '|' || ".join(f"quote({column})" for column in kept)
            found[name] = [row[0] for row in connection.execute(f"SELECT {text} FROM {name} ORDER BY 1")]
    connection.close()
    return found


def epochs(home: Path, what: str) -> Counter[str]:
    """How often each epoch was `begun` or `finished`, without validations."""
    lines = (home / "epochs.txt").read_text(encoding="utf-8").splitlines()
    noted = (line.partition(" ") for line in lines)
    return Counter(
        label for kind, _, label in noted if kind == what and not label.startswith(("validating", "evaluating"))
    )


def files(home: Path) -> list[str]:
    """All files, without the random id of the study."""
    everything = (path for part in ("storage", "cache") for path in (home / part).rglob("*"))
    found = (path.relative_to(home) for path in everything if path.is_file())
    return sorted(re.sub(r"^(storage/[^/]+)-[0-9a-f]{8}", r"\1", str(path)) for path in found)


def check_same(home: Path, calm: Path, *, repeated: int) -> None:
    """A study that was interrupted is what it would have been, and did little twice."""
    assert tables(home) == tables(calm)
    assert files(home) == files(calm)
    for what in ("begun", "finished"):
        extra = epochs(home, what) - epochs(calm, what)
        assert set(epochs(home, what)) == set(epochs(calm, what))
        assert sum(extra.values()) <= repeated, f"epochs {what} too often: {extra}"


def test_the_study_left_alone_is_complete(calm: Path) -> None:
    connection = sqlite3.connect(calm / "studies.db")
    counts = dict(connection.execute("SELECT fidelity, count(*) FROM trials GROUP BY fidelity"))
    screened = {"supernet": NUM_SCREENED, "rescored": NUM_RESCORED}
    assert counts == {"dense": 1, "supernet_training": 1, **screened, "finetune": NUM_FINETUNED}
    states = dict(connection.execute("SELECT state, count(*) FROM trials GROUP BY state"))
    assert states == {"REFERENCE": NUM_TRAINED + 1, "COMPLETE": NUM_SCREENED + NUM_RESCORED + NUM_FINETUNED - 1}
    connection.close()
    once = {label: 1 for label in epochs(calm, "begun")}
    assert len(once) == 2 * (NUM_TRAINED + NUM_FINETUNED)
    assert epochs(calm, "begun") == epochs(calm, "finished") == once
    assert {"measurements", "hits", "sparsesearch_version", "profiles", "studies", "trials"} < set(tables(calm))


def test_the_same_seed_gives_the_same_study(job: Job, calm: Path, tmp_path: Path) -> None:
    assert job(tmp_path, "run") == 0
    check_same(tmp_path, calm, repeated=0)


@pytest.mark.parametrize("point", points())
def test_a_killed_study_goes_on_as_if_nothing_had_happened(job: Job, calm: Path, tmp_path: Path, point: str) -> None:
    assert job(tmp_path, "run", kill=point) == -signal.SIGKILL
    before = tables(tmp_path)
    assert before != tables(calm)
    assert set(before["measurements"]) <= set(tables(calm)["measurements"])
    finished = epochs(tmp_path, "finished") if (tmp_path / "epochs.txt").exists() else Counter()
    assert job(tmp_path, "resume") == 0
    check_same(tmp_path, calm, repeated=1)
    if point.startswith("step:"):
        assert sum((finished - epochs(tmp_path, "finished")).values()) == 0
        assert epochs(tmp_path, "finished") == epochs(calm, "finished"), "only the epoch under way was lost"


def steps(home: Path) -> int:
    """How many optimizer steps were taken in all."""
    return len((home / "steps.txt").read_text(encoding="utf-8").splitlines())


KILLED_AT = random.Random(7).sample(range(2, NUM_REFERENCE_STEPS + 1), 10)


@pytest.mark.parametrize("step", [*KILLED_AT[:4], *(pytest.param(s, marks=pytest.mark.long) for s in KILLED_AT[4:])])
def test_a_killed_training_goes_on_after_its_last_checkpoint(job: Job, calm: Path, tmp_path: Path, step: int) -> None:
    """Dense and supernet training, with a checkpoint after every step; a step is killed before its checkpoint."""
    assert job(tmp_path, "run", kill=f"step:{step}", save_every_s=0.0) == -signal.SIGKILL
    assert job(tmp_path, "resume", save_every_s=0.0) == 0
    check_same(tmp_path, calm, repeated=1)
    assert steps(tmp_path) == steps(calm) + 1


def test_a_study_killed_again_and_again_ends_the_same(job: Job, calm: Path, tmp_path: Path) -> None:
    """Each resumed run is killed as well, at points counted from its own start."""
    kills = ["after-added:1", "step:5", "after-measured:1", "before-checkpointed:2", "after-ended-supernet:3", "step:7"]
    for i, point in enumerate(kills):
        assert job(tmp_path, "resume" if i else "run", kill=point) == -signal.SIGKILL
    assert job(tmp_path, "resume") == 0
    check_same(tmp_path, calm, repeated=len(kills))

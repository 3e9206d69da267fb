"""Databases of earlier revisions: each is refused or read as it is, upgrades, and then holds what it held."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import pytest
from make_snapshot import SMALL, STATES, fill

from sparsesearch.errors import StoreVersionError
from sparsesearch.store import migrate
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import open_store
from sparsesearch.store.tables import REVISION
from sparsesearch.study.state import StudyCondition, StudyState
from sparsesearch.study.trial import Trial, TrialState

SNAPSHOTS = sorted(Path(__file__).parent.glob("*.db"))


def test_every_revision_has_a_snapshot() -> None:
    revisions = {path.stem for path in SNAPSHOTS}
    assert {"0001", REVISION} <= revisions
    assert all(path.stat().st_size < 100_000 for path in SNAPSHOTS)


def without_confirmation(trial: Trial) -> Trial:
    """A trial as revision 0001 could hold it."""
    return trial.model_copy(update={"confirmed": None, "cost": trial.cost.model_copy(update={"latency_ms": None})})


def test_profiles_and_confirmed_latencies_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    shutil.copy(SNAPSHOTS[0].with_name("0002.db"), path)
    migrate.upgrade(f"sqlite:///{path}")
    store = open_store(f"sqlite:///{path}")
    assert store.trials("snapshot")[1].confirmed is not None
    assert store.trials("snapshot")[1].cost.latency_ms == 1.875
    assert list(store.profiles.names()) == ["made-up"]
    assert store.profiles.get("made-up").geometry == SMALL
    store.close()


@pytest.mark.parametrize("snapshot", SNAPSHOTS, ids=lambda path: path.stem)
def test_a_snapshot_upgrades_and_loads(snapshot: Path, tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    shutil.copy(snapshot, path)
    url = f"sqlite:///{path}"
    assert migrate.current_revision(url) == snapshot.stem
    if snapshot.stem != REVISION:
        with pytest.raises(StoreVersionError, match="sparsesearch db upgrade"):
            open_store(url)
    assert migrate.upgrade(url) == REVISION
    store = open_store(url)
    expected = MemoryStore()
    fill(expected)
    assert list(store.studies()) == ["snapshot"]
    assert store.spec("snapshot") == expected.spec("snapshot")
    trials = [without_confirmation(trial) for trial in store.trials("snapshot")]
    assert list(map(repr, trials)) == list(map(repr, map(without_confirmation, expected.trials("snapshot"))))
    numbers = range(len(STATES))
    has_hits = snapshot.stem >= "0008"
    assert store.hits("snapshot", numbers) == (expected.hits("snapshot", numbers) if has_hits else {})
    assert len(store.uid("snapshot")) == 32
    writer = store.open_study("snapshot")
    assert [trial.number for trial in writer.trials({TrialState.WAITING})] == [len(STATES) - 1]
    assert writer.claim(len(STATES) - 1).attempt == 1
    writer.close()
    store.close()


ALL_ENDED = "DELETE FROM trials WHERE state = 'WAITING'"
FEW_PLANNED = (
    """UPDATE studies SET spec = json_set(spec, '$.fidelity.evaluations', 3, '$.fidelity.strategy', 'finetune')"""
)
A_TIME_BUDGET = "UPDATE studies SET spec = json_set(spec, '$.time_budget_s', 60.0)"
DENSE_FAILED = "UPDATE trials SET state = 'FAILED', reason = 'the loss became nan' WHERE number = 0"


@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
@pytest.mark.parametrize(
    ("changes", "state", "reason"),
    [
        ([], StudyState.PAUSED, None),
        (["DELETE FROM measurements", "DELETE FROM trials"], StudyState.PAUSED, None),
        ([ALL_ENDED], StudyState.PAUSED, None),
        ([ALL_ENDED, FEW_PLANNED], StudyState.FINISHED, None),
        ([FEW_PLANNED], StudyState.PAUSED, None),
        ([ALL_ENDED, A_TIME_BUDGET], StudyState.FINISHED, None),
        ([DENSE_FAILED], StudyState.FAILED, "trial 0: the loss became nan"),
    ],
    ids=["unfinished", "empty", "more planned", "all ended", "one waiting", "time over", "dense failed"],
)
def test_the_state_of_an_older_study_follows_from_its_trials(
    revision: str, changes: list[str], state: StudyState, reason: str | None, tmp_path: Path
) -> None:
    path = tmp_path / "studies.db"
    shutil.copy(SNAPSHOTS[0].with_name(f"{revision}.db"), path)
    with sqlite3.connect(path) as connection:
        for change in changes:
            connection.execute(change)
    connection.close()
    migrate.upgrade(f"sqlite:///{path}")
    store = open_store(f"sqlite:///{path}")
    assert store.condition("snapshot") == StudyCondition(state=state, reason=reason)
    store.close()

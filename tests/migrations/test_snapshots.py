"""Databases of earlier revisions: each is refused or read as it is, upgrades, and then holds what it held."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from make_snapshot import SMALL, STATES, fill

from sparsesearch.errors import StoreVersionError
from sparsesearch.store import migrate
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import open_store
from sparsesearch.store.tables import REVISION
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
    writer = store.open_study("snapshot")
    assert [trial.number for trial in writer.trials({TrialState.WAITING})] == [len(STATES) - 1]
    assert writer.claim(len(STATES) - 1).attempt == 1
    writer.close()
    store.close()

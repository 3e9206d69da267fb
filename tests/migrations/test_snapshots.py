"""Databases of earlier revisions: each is refused or read as it is, upgrades, and then holds what it held."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from make_snapshot import STATES, fill

from sparsesearch.errors import StoreVersionError
from sparsesearch.store import migrate
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import open_store
from sparsesearch.store.tables import REVISION
from sparsesearch.trial import TrialState

SNAPSHOTS = sorted(Path(__file__).parent.glob("*.db"))


def test_every_revision_has_a_snapshot() -> None:
    revisions = {path.stem for path in SNAPSHOTS}
    assert "0001" in revisions
    assert all(path.stat().st_size < 100_000 for path in SNAPSHOTS)


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
    assert list(map(repr, store.trials("snapshot"))) == list(map(repr, expected.trials("snapshot")))
    ledger = store.open_study("snapshot")
    assert [trial.number for trial in ledger.trials({TrialState.WAITING})] == [len(STATES) - 1]
    assert ledger.claim(len(STATES) - 1).attempt == 1
    ledger.close()
    store.close()

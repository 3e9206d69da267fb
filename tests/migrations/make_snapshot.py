"""Make the database that `test_snapshots.py` keeps of a revision:
`PYTHONPATH=tests python tests/migrations/make_snapshot.py`.

Run it once, before a release, at the revision that is released. A snapshot is never made again: it stands for the
databases that users have.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from pathlib import Path

from latency_samples import made_up_confirmation, made_up_fit, made_up_profile

from sparsesearch.schedule import Schedule
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.store.tables import REVISION
from sparsesearch.study.events import Checkpointed, Confirmed, Ended, Measured
from sparsesearch.study.hits import Hits
from sparsesearch.study.numbers import Numbers
from sparsesearch.study.protocols import StudyStore
from sparsesearch.study.spec import Budget, DataSpec, FidelitySpec, StudySpec
from sparsesearch.study.trial import (
    CheckpointRef,
    Cost,
    Fidelity,
    FinalState,
    Measurement,
    NewTrial,
    Origin,
    Proposal,
    TrialState,
)

SMALL = BackboneGeometry(
    name="small",
    image_size=(32, 32),
    stages=(StageGeometry(depth=3, dim=8, attn_dim=8, num_heads=1, mlp_dim=16, grid=(4, 4)),),
    stem_macs=10,
    head_macs=10,
    params=10,
)

STATES: tuple[tuple[FinalState, str] | None, ...] = (
    (TrialState.REFERENCE, "reference"),
    (TrialState.COMPLETE, "complete"),
    (TrialState.STOPPED, "stopped"),
    (TrialState.FAILED, "failed"),
    (TrialState.FAILED, "rejected"),  # a state of its own up to revision 0002
    None,
)


def fill(store: StudyStore) -> None:
    """One study with a trial of every kind."""
    spec = StudySpec(
        name="snapshot",
        backbone="deit_pico",
        budget=Budget(low=0.2, high=0.65),
        data=DataSpec(workers=0),
        fidelity=FidelitySpec(retrain=FidelitySpec().retrain.model_copy(update={"preset": None})),
        sampler="tpe",
        dispatcher="inline",
        seed=3,
    )
    writer = store.create_study(spec)
    for number, ended in enumerate(STATES):
        proposal = Proposal(
            index=number, seed=2**63 + number, seen=Numbers(range(number)), params={"ratio": 0.1 * number, "count": 2}
        )
        writer.add_trial(
            NewTrial(
                number=number,
                fidelity=Fidelity.DENSE if number == 0 else Fidelity.FINETUNE,
                origin=Origin.REFERENCE if number == 0 else Origin.SEARCH,
                label="dense" if number == 0 else "search",
                schedule=Schedule() if number == 0 else Schedule.at([1, 2], [0.7, 0.7**number]),
                key=f"{number:032x}",
                cost=Cost(macs=10**9 + number, params=10**6, latency_ms=0.1 * number or None),
                seed=number,
                parent=None if number < 2 else 1,
                proposal=None if number == 0 else proposal,
                budget_macs=None if number == 0 else 2 * 10**9,
            )
        )
        if ended is None:
            continue
        writer.claim(number)
        attempt = writer.claim(number, retry=number == 2).attempt
        for step in (1, 2):
            metrics = {"val_top1": 0.1 * number + step / 7, "val_loss": float("nan") if number == 3 else 1 / 3}
            measurement = Measurement(
                step=step, attempt=attempt, fidelity=Fidelity.FINETUNE, metrics=metrics, seconds=0.5, seed=number
            )
            hits = Hits.of([image % (number + 2) == 0 for image in range(20)], images="confirm") if step == 2 else None
            writer.record(Measured(trial=number, attempt=attempt, measurement=measurement, hits=hits))
            checkpoint = CheckpointRef(uri=f"file:///ckpt/{number}.safetensors", sha256=f"{step:064x}", step=step)
            writer.record(Checkpointed(trial=number, attempt=attempt, checkpoint=checkpoint))
        state, word = ended
        reason = None if state is TrialState.COMPLETE else f"because of {word}"
        writer.record(Ended(trial=number, attempt=attempt, state=state, reason=reason))
    writer.close()


def fill_profiles(store: SqlStore) -> None:
    """What databases hold from revision 0002 on: a confirmed latency and a profile."""
    writer = store.open_study("snapshot")
    writer.record(Confirmed(trial=1, attempt=1, latency=made_up_confirmation(1.5, reference_ms=5.0)))
    writer.close()
    store.profiles.save("made-up", made_up_profile(SMALL, made_up_fit(SMALL)))


def main() -> None:
    """Write the file of the current revision, unless it is there."""
    target = Path(__file__).parent / f"{REVISION}.db"
    if target.exists():
        sys.exit(f"{target} is there already; a snapshot is made once")
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "studies.db"
        store = open_store(f"sqlite:///{source}", clock=lambda: 1_700_000_000.0)
        fill(store)
        fill_profiles(store)
        store.close()
        with sqlite3.connect(source) as connection:
            connection.execute("UPDATE leases SET host = 'host', machine = 'machine', pid = 1, process_start = NULL")
        connection.execute("PRAGMA page_size = 1024")  # most tables are nearly empty
        connection.execute("VACUUM INTO ?", (str(target),))
        connection.close()


if __name__ == "__main__":
    main()

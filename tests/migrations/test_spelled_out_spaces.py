"""Studies of versions that stored the resolved space in place of the requested one.

`spelled_out_spaces.json` was written by the last of these versions: requested spaces, the documents that it stored for
them (sampler `random`), and the keys of the trials that it ran.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from sample_study import MadeUpEvaluator

from sparsesearch.analysis.phases import SCREENED_AT
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.search.controller import StagedController
from sparsesearch.space.definition import SearchSpace
from sparsesearch.space.resolved import ResolvedSpace
from sparsesearch.space.supernet_schedules import with_fixed_windows
from sparsesearch.space.untrained import without_training
from sparsesearch.store import migrate
from sparsesearch.store.memory import MemoryStore
from sparsesearch.store.sql import open_store
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.trial import Origin

HERE = Path(__file__).parent
STUDIES = json.loads((HERE / "spelled_out_spaces.json").read_text(encoding="utf-8"))


def resolved_for(strategy: str, space: SearchSpace, geometry: BackboneGeometry) -> ResolvedSpace:
    resolved = space.resolve(geometry)
    if strategy == "training-free":
        return without_training(resolved, geometry)
    return with_fixed_windows(resolved, geometry) if strategy == "supernet" else resolved


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study["spec"]["fidelity"]["strategy"])
@pytest.mark.parametrize("revision", ["0001", "0002", "0003"])
def test_a_study_in_an_old_database_goes_on_in_its_space(study: dict[str, Any], revision: str, tmp_path: Path) -> None:
    path = tmp_path / "studies.db"
    shutil.copy(HERE / f"{revision}.db", path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE studies SET spec = ?", (json.dumps(study["spec"]),))
    connection.close()
    migrate.upgrade(f"sqlite:///{path}")
    store = open_store(f"sqlite:///{path}")
    spec = store.spec("snapshot")
    store.close()
    assert spec.resolved is not None
    geometry, space = spec.resolved.geometry, spec.resolved.space
    for requested in (SearchSpace.model_validate(study["requested"]), spec.space):
        assert resolved_for(spec.fidelity.strategy, requested, geometry) == space
    assert StudySpec.model_validate_json(spec.model_dump_json()) == spec
    assert StudySpec.model_validate(spec.model_dump()) == spec

    memory = MemoryStore()
    writer = memory.create_study(spec)
    InlineDispatcher().run(StagedController(spec, geometry), writer, MadeUpEvaluator())
    if spec.fidelity.strategy != "training-free":  # its hand-crafted schedules are others now
        screened = SCREENED_AT[spec.fidelity.strategy]
        trials = [trial for trial in memory.trials("snapshot") if trial.origin is not Origin.REFERENCE]
        keys = [trial.key for trial in trials if trial.fidelity is screened]
        first = study["keys"].index(keys[0])
        assert keys == study["keys"][first : first + len(keys)]
        assert len(keys) > spec.fidelity.evaluations

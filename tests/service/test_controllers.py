"""Controllers as processes on one PostgreSQL: each study is run once, whatever is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from postgres_server import postgres
from running import LONG, QUICK, Service, running_service, state, until

from sparsesearch.service.client import ServiceClient
from sparsesearch.store.sql import open_store
from sparsesearch.study.trial import TrialState

pytestmark = pytest.mark.slow

INLINE = ("--dispatcher", "inline")


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with postgres() as url, running_service(tmp_path / "home", url) as found:
        yield found


@pytest.fixture
def client(service: Service) -> ServiceClient:
    return service.client(service.serve(), "alice", "admin")


def test_what_cannot_begin_is_paused_with_the_reason(service: Service, tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    root.mkdir()
    elsewhere.mkdir()
    (root / "set").mkdir()
    service.environment["SPARSESEARCH_DATA_ROOTS"] = str(root)
    client = service.client(service.serve(), "alice")
    moved = client.submit({**QUICK, "data": {"source": f"folder:{root / 'set'}"}})
    no_weights = client.submit({**QUICK, "seed": 1, "weights": str(root / "none.safetensors")})
    (root / "set").rmdir()
    (root / "set").symlink_to(elsewhere)
    service.controller(*INLINE)
    for name, reason in ((moved, "is not in a folder that studies may read"), (no_weights, "none.safetensors")):
        until(partial(is_paused, client, name), what="it is paused")
        assert reason in client.get(f"/studies/{name}").json()["reason"]


def is_paused(client: ServiceClient, name: str) -> bool:
    return state(client, name) == "PAUSED"


def running_by(service: Service) -> dict[str, int]:
    """The process that has leased each study."""
    store = open_store(service.environment["SPARSESEARCH_DATABASE_URL"])
    found = {study: row.pid for row in store.controllers.all() for study in row.running}
    store.close()
    return found


def generations(service: Service, study: str) -> int:
    """How often a study was opened."""
    from sqlalchemy import create_engine, text

    engine = create_engine(
        service.environment["SPARSESEARCH_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
    )
    query = text("SELECT generation FROM leases JOIN studies ON id = study_id WHERE name = :name")
    with engine.connect() as connection:
        found: int = connection.execute(query, {"name": study}).scalar_one()
    engine.dispose()
    return found


def test_two_controllers_run_each_study_once(service: Service, client: ServiceClient) -> None:
    names = [client.submit({**QUICK, "seed": seed}) for seed in range(4)]
    for _ in range(2):
        service.controller(*INLINE, "--results", str(service.home / "results"))
    until(lambda: all(state(client, name) == "FINISHED" for name in names), seconds=300, what="all studies end")
    assert [generations(service, name) for name in names] == [1, 1, 1, 1]
    for name in names:
        trials = client.get(f"/studies/{name}/trials").json()["trials"]
        assert {trial["state"] for trial in trials} <= {"COMPLETE", "REFERENCE"}
        recipe = service.home / "results" / name / "best.yaml"  # written when the study has ended
        until(recipe.is_file, seconds=60, what=f"{recipe} is written")
    log = service.logs()
    assert all(log.count(f"study {name}: started") == 1 for name in names)


def test_a_killed_controller_loses_nothing(service: Service, client: ServiceClient) -> None:
    name = client.submit(LONG)
    first = service.controller(*INLINE)
    until(lambda: _epochs(service, name) >= 2, what="the study is trained")
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    second = service.controller(*INLINE)
    before = _epochs(service, name)
    until(lambda: _epochs(service, name) > before + 1, seconds=180, what="another controller goes on")
    second.send_signal(signal.SIGTERM)
    assert second.wait(40) == 0
    assert state(client, name) == "QUEUED"
    assert generations(service, name) == 2


def test_a_paused_study_goes_on_and_a_cancelled_one_does_not(service: Service, client: ServiceClient) -> None:
    paused, cancelled = client.submit({**LONG, "seed": 1}), client.submit({**LONG, "seed": 2})
    service.controller(*INLINE)
    until(lambda: _epochs(service, paused) >= 1, what="the first study is trained")
    client.request("POST", f"/studies/{paused}/pause")
    until(lambda: state(client, paused) == "PAUSED", what="it pauses")
    until(lambda: _epochs(service, cancelled) >= 1, what="its slot is used by the next one")
    client.request("POST", f"/studies/{cancelled}/cancel")
    until(lambda: state(client, cancelled) == "CANCELLED", what="it is cancelled")
    before = _epochs(service, paused)
    client.request("POST", f"/studies/{paused}/resume")
    until(lambda: _epochs(service, paused) > before, what="the paused one goes on")


def test_changed_resources_apply_to_a_study_that_runs(service: Service, client: ServiceClient) -> None:
    name = client.submit(LONG)
    service.controller(*INLINE)
    until(lambda: _epochs(service, name) >= 1, what="the study is trained")
    client.request("PATCH", f"/studies/{name}", json={"max_concurrent": 1, "time_budget_s": 1000})
    until(lambda: generations(service, name) == 2, what="it starts again with what was changed")
    before = _epochs(service, name)
    until(lambda: _epochs(service, name) > before, what="it goes on")


def _epochs(service: Service, study: str) -> int:
    store = open_store(service.environment["SPARSESEARCH_DATABASE_URL"])
    trials = store.trials(study, states=[TrialState.RUNNING, TrialState.REFERENCE])
    store.close()
    return max((trial.epochs_done for trial in trials), default=0)

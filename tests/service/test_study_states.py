"""What can be done with a study in each state, and what is written in the audit trail about it."""

from __future__ import annotations

import time

import pytest
from queued_studies import begun, bring, lost
from sample_study import sample_spec
from served import API, Api, line

from sparsesearch.app.storage import storage_of
from sparsesearch.store.audit import Actor
from sparsesearch.study.state import StudyState
from sparsesearch.training.study_folder import study_folder

Q, RES, RUN, STO, P, FIN, FAIL, C = (state.value for state in StudyState)
TRANSITIONS = {
    "pause": {Q: P, RES: STO, RUN: STO, STO: STO, P: P, FIN: None, FAIL: None, C: None},
    "cancel": {Q: C, RES: STO, RUN: STO, STO: STO, P: C, FIN: None, FAIL: C, C: C},
    "resume": {Q: Q, RES: None, RUN: None, STO: None, P: Q, FIN: None, FAIL: Q, C: None},
}
"""The state after a request; None where it is refused."""

CASES = [(verb, before, after) for verb, states in TRANSITIONS.items() for before, after in states.items()]


@pytest.mark.parametrize(("verb", "before", "after"), CASES, ids=[f"{verb} {before}" for verb, before, _ in CASES])
def test_requests_in_each_state(api: Api, verb: str, before: str, after: str | None) -> None:
    name = api.submit()
    writer = bring(api.store, name, StudyState(before))
    found = api.store.condition(name)
    known = len(api.store.queue.audit())
    answer = api.caller("ann").post(f"{API}/studies/{name}/{verb}")
    entries = api.store.queue.audit(what=name)
    if after is None:
        assert answer.status_code == 409
        assert line(answer).startswith(f"study '{name}' is {before.lower()}")
        assert api.store.condition(name) == found
        assert len(api.store.queue.audit()) == known
        return
    assert answer.status_code == 200
    condition = api.store.condition(name)
    assert condition.state.value == after
    assert answer.json() == {
        "study": name,
        "state": after,
        "reason": condition.reason,
        "request": verb if writer is not None else None,
        "is_leased": writer is not None,
    }
    if condition == found:
        assert len(api.store.queue.audit()) == known, "what changes nothing is not in the trail"
    else:
        entry = entries[0]
        assert (entry.who, entry.action, entry.before, entry.after) == ("ann", verb, before, after)
    if writer is not None:
        assert (condition.request or "").lower() == verb


@pytest.mark.parametrize("state", list(StudyState))
def test_deleting_in_each_state(api: Api, state: StudyState) -> None:
    name = api.submit()
    writer = bring(api.store, name, state)
    answer = api.caller("ann").delete(f"{API}/studies/{name}")
    if state.is_active:
        assert answer.status_code == 409
        assert f"study '{name}' is being run by" in line(answer)
        assert writer is not None
        lost(api.store, writer)
        answer = api.caller("ann").delete(f"{API}/studies/{name}")
    assert answer.status_code == 204
    assert answer.content == b""
    assert api.store.studies() == []
    assert (api.store.queue.audit()[0].who, api.store.queue.audit()[0].action) == ("ann", "delete")
    assert api.caller("ann").delete(f"{API}/studies/{name}").status_code == 404


@pytest.mark.parametrize(("verb", "after"), [("pause", P), ("cancel", C), ("resume", Q)])
def test_a_study_whose_process_was_lost(api: Api, verb: str, after: str) -> None:
    writer = begun(api.store, sample_spec("mine"))
    writer.set_state(StudyState.RUNNING)
    lost(api.store, writer)
    shown = api.caller("rita").get(f"{API}/studies").json()["studies"][0]
    assert (shown["state"], shown["is_interrupted"]) == ("RUNNING", True)
    assert api.caller("ann").post(f"{API}/studies/mine/{verb}").json()["state"] == after


def test_a_cancelled_process_cannot_be_paused_instead(api: Api) -> None:
    name = api.submit()
    bring(api.store, name, StudyState.RUNNING)
    caller = api.caller("ann")
    assert caller.post(f"{API}/studies/{name}/cancel").json()["request"] == "cancel"
    assert caller.post(f"{API}/studies/{name}/pause").json()["request"] == "cancel"


def test_the_checkpoints_of_a_deleted_study_are_removed(api: Api) -> None:
    writer = begun(api.store, sample_spec("mine"))
    writer.set_state(StudyState.PAUSED)
    writer.close()
    storage = storage_of(writer.spec, api.workspace.settings)
    folder, other = study_folder(storage, "mine", api.store.uid("mine")), study_folder(storage, "other")
    for one in (folder, other):
        one.mkdir(parents=True)
        (one / "checkpoint.pt").write_bytes(b"weights")
    assert api.caller("ann").delete(f"{API}/studies/mine").status_code == 204
    assert other.is_dir()
    assert not folder.exists()


def test_the_audit_trail_is_read_in_pages(api: Api) -> None:
    for number in range(5):
        api.submit(name=f"s{number}")
    api.store.queue.delete("s0", by=Actor("ben"))
    root = api.caller("root")
    first = root.get(f"{API}/audit", params={"limit": 2}).json()
    assert [(entry["who"], entry["action"], entry["what"]) for entry in first] == [
        ("ben", "delete", "s0"),
        ("ann", "submit", "s4"),
    ]
    second = root.get(f"{API}/audit", params={"limit": 2, "before": first[-1]["number"]}).json()
    assert [entry["what"] for entry in second] == ["s3", "s2"]
    assert [entry["action"] for entry in root.get(f"{API}/audit", params={"what": "s0"}).json()] == ["delete", "submit"]
    for query in ("what=%00", "what=a b", f"before={10**30}", "before=0", "limit=1001"):
        assert root.get(f"{API}/audit?{query}").status_code == 422


def test_submitting_takes_little(api: Api) -> None:
    api.submit()
    began = time.perf_counter()
    for _ in range(20):
        api.submit(backbone="deit_s", budget="50%")
    assert (time.perf_counter() - began) / 20 < 0.5

"""Submitting studies, looking at them, and changing them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from queued_studies import DOCUMENT, bring, finished
from served import API, Api, line

from sparsesearch.app.start_study import requested_study
from sparsesearch.app.validate import filled_in
from sparsesearch.errors import UserInputError
from sparsesearch.study.progress import Silent
from sparsesearch.study.state import StudyState
from sparsesearch.study.submission import Changes

ACTIVE = [StudyState.RESOLVING, StudyState.RUNNING, StudyState.STOPPING]


def trail(api: Api) -> list[tuple[str, str, str | None, str | None]]:
    """Who did what, oldest first, without the tokens that were created."""
    entries = api.caller("root").get(f"{API}/audit").json()
    return [
        (entry["who"], entry["action"], entry["before"], entry["after"])
        for entry in entries[::-1]
        if entry["action"] != "create token"
    ]


def as_run_does(document: dict[str, Any], api: Api) -> None:
    filled_in(document)
    requested_study(document, api.workspace, progress=Silent())


class TestSubmitting:
    def test_a_study_is_queued_with_all_keys_filled_in(self, api: Api) -> None:
        answer = api.caller("ann").post(f"{API}/studies", json={**DOCUMENT, "name": "mine", "priority": 5})
        assert answer.status_code == 201
        assert answer.headers["location"] == f"{API}/studies/mine"
        queued = {"study": "mine", "state": "QUEUED", "reason": None, "request": None, "is_leased": False}
        assert answer.json() == queued
        shown = api.caller("rita").get(answer.headers["location"]).json()
        assert queued.items() <= shown.items()
        place = {key: value for key, value in shown["queue"].items() if key != "submitted_at"}
        assert place == {"owner": "ann", "priority": 5, "max_concurrent": None, "time_budget_s": None}
        assert shown["spec"]["budget"] == {"unit": "fraction", "low": None, "high": 0.6}
        assert shown["spec"]["fidelity"]["evaluations"] > 0
        assert "resolved" not in shown["spec"]
        assert shown["status"]["study"] == "mine"
        assert trail(api) == [("ann", "submit", None, "priority 5")]

    @pytest.mark.parametrize(
        ("budget", "stored", "name"),
        [
            ("35%", {"unit": "fraction", "low": None, "high": 0.35}, "deit_pico-35p"),
            ("20%:45%", {"unit": "fraction", "low": 0.2, "high": 0.45}, "deit_pico-20p-45p"),
            ({"high": 0.35}, {"unit": "fraction", "low": None, "high": 0.35}, "deit_pico-35p"),
            ({"unit": "share", "high": 0.35}, {"unit": "fraction", "low": None, "high": 0.35}, "deit_pico-35p"),
            ({"unit": "gflops", "high": 0.01}, {"unit": "gflops", "low": None, "high": 0.01}, "deit_pico-0.01g"),
            ({"unit": "ms", "low": 1, "high": 2.5}, {"unit": "ms", "low": 1.0, "high": 2.5}, "deit_pico-1ms-2.5ms"),
        ],
    )
    def test_budgets_and_names(self, api: Api, budget: object, stored: dict[str, object], name: str) -> None:
        found = api.submit(budget=budget)
        assert api.caller("rita").get(f"{API}/studies/{found}").json()["spec"]["budget"] == stored
        assert found.replace("ms-", "m-") == name.replace("ms-", "m-")
        assert api.submit(budget=budget) == f"{found}-2", "a name that is made up is never taken"

    def test_a_name_that_is_taken(self, api: Api) -> None:
        api.submit(name="mine")
        answer = api.caller("ben").post(f"{API}/studies", json={**DOCUMENT, "name": "mine"})
        assert answer.status_code == 409
        assert line(answer) == (
            "study 'mine' already exists; resume it with `sparsesearch resume mine`, delete it with "
            "`sparsesearch delete mine`, or choose another name with --study"
        )
        assert [entry[0] for entry in trail(api)] == ["ann"]

    @pytest.mark.parametrize("priority", [-1000, 0, 1000])
    def test_priorities(self, api: Api, priority: int) -> None:
        assert api.store.queue.submission(api.submit(priority=priority)).priority == priority

    @pytest.mark.parametrize("priority", [-1001, 1001, 10**30, 1.5, "1", True, None, [], {}])
    def test_priorities_that_are_none(self, api: Api, priority: object) -> None:
        answer = api.caller("ann").post(f"{API}/studies", json={**DOCUMENT, "priority": priority})
        assert answer.status_code == 422
        assert line(answer) == "priority must be an integer from -1000 to 1000"
        assert api.store.studies() == []

    @pytest.mark.parametrize(
        "changes",
        [
            {"backbone": "deit_q"},
            {"backbone": None},
            {"budget": None},
            {"budget": "35"},
            {"budget": "1%"},
            {"budget": "150%"},
            {"budget": {"high": -1}},
            {"budget": 5},
            {"budgett": "35%"},
            {"name": "-a"},
            {"name": "a b"},
            {"name": 5},
            {"data": "digits:easy"},
            {"data": {"source": "digits", "colour": 1}},
            {"fidelity": {"evaluations": 0}},
            {"fidelity": 5},
            {"fidelity": {"retrain": {"preset": "deit_q"}}},
            {"sampler": "random", "warm_start": "other"},
            {"seed": -1},
            {"space": {"blocks": [99]}},
            {"latency": "x"},
        ],
    )
    def test_what_is_invalid_is_said_as_on_the_command_line(self, api: Api, changes: dict[str, Any]) -> None:
        document = {key: value for key, value in {**DOCUMENT, **changes}.items() if value is not None}
        answer = api.caller("ann").post(f"{API}/studies", json=document)
        assert answer.status_code == 422
        with pytest.raises(UserInputError) as error:
            as_run_does(document, api)
        assert line(answer) == str(error.value)
        assert api.store.studies() == []

    @pytest.mark.parametrize(
        ("body", "status", "what"),
        [
            (b"", 422, "body: Field required"),
            (b"{", 422, "the body is not JSON: Expecting property name enclosed in double quotes (character 1)"),
            (b"backbone=deit_pico", 422, "the body is not JSON"),
            (b"null", 422, "body"),
            (b"[]", 422, "body: Input should be a valid dictionary"),
            (b'"x"', 422, "body: Input should be a valid dictionary"),
            (b'{"backbone": "\xff"}', 400, "the body of the request cannot be read; send JSON in UTF-8"),
            (b"[" * 100_000, 400, "the body of the request cannot be read"),
            (b'{"seed": ' + b"9" * 5000 + b"}", 400, "the body of the request cannot be read"),
        ],
    )
    def test_bodies_that_are_no_document(self, api: Api, body: bytes, status: int, what: str) -> None:
        headers = {"Content-Type": "application/json"}
        answer = api.caller("ann").post(f"{API}/studies", content=body, headers=headers)
        assert answer.status_code == status
        assert line(answer).startswith(what)

    def test_without_torch(self, tmp_path: Path) -> None:
        code = """
import sys
from pathlib import Path
from served import Api
api = Api(Path(sys.argv[1]))
for changes in ({}, {"backbone": "deit_s", "data": f"folder:{api.root}"}, {"backbone": "swin_t", "budget": "80%"}):
    name = api.submit(**changes)
    for path in ("", f"/{name}", f"/{name}/trials", f"/{name}/front"):
        assert api.caller("rita").get(f"/api/v1/studies{path}").status_code == 200
    assert api.caller("ann").post(f"/api/v1/studies/{name}/pause").status_code == 200
print(sorted({"torch", "timm", "ray", "mlflow", "matplotlib"} & set(sys.modules)))
"""
        folders = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
        done = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {folders}\n{code}", str(tmp_path)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.stdout == "[]\n", done.stderr


class TestLooking:
    def test_pages_of_studies(self, api: Api) -> None:
        names = [api.submit(name=f"s{number}", by="ann" if number % 2 else "ben") for number in range(7)]
        read, offset = [], 0
        while offset is not None:
            page = api.caller("rita").get(f"{API}/studies", params={"limit": 3, "offset": offset}).json()
            assert page["total"] == 7
            read += page["studies"]
            offset = page["next_offset"]
        assert [found["study"] for found in read] == names[::-1], "the newest first"
        assert [found["queue"]["owner"] for found in read] == ["ben", "ann"] * 3 + ["ben"]
        past = api.caller("rita").get(f"{API}/studies", params={"offset": 7}).json()
        assert (past["studies"], past["next_offset"]) == ([], None)

    @pytest.mark.parametrize("query", ["limit=0", "limit=501", "offset=-1", "limit=x", f"offset={10**30}"])
    def test_pages_that_are_none(self, api: Api, query: str) -> None:
        assert api.caller("rita").get(f"{API}/studies?{query}").status_code == 422

    def test_a_line_of_a_study_with_results_and_of_one_without(self, api: Api) -> None:
        finished(api.store)
        api.submit(name="new")
        new, old = api.caller("rita").get(f"{API}/studies").json()["studies"]
        assert (new["study"], new["state"], new["trials"], new["best"]) == ("new", "QUEUED", 0, None)
        assert (old["study"], old["state"], old["metric"]) == ("sample", "FINISHED", "val_top1")
        assert old["trials"] == len(api.store.trials("sample"))
        assert 0.5 < old["best"] < 1

    @pytest.mark.parametrize("path", ["", "/trials", "/front", "/front?format=png", "/report", "/recipe", "/events"])
    def test_a_study_that_does_not_exist(self, api: Api, path: str) -> None:
        api.submit(name="mine")
        answer = api.caller("rita").get(f"{API}/studies/other{path}")
        assert answer.status_code == 404
        assert line(answer) == "no study 'other'", "where the database is, is nobody's business"

    @pytest.mark.parametrize("name", ["-a", "a b", "%00", "a%0a", "..%2f..", "x" * 81, "%ed%a0%80", "é"])
    def test_a_name_that_is_none(self, api: Api, name: str) -> None:
        for method in ("GET", "DELETE"):
            answer = api.caller("ann").request(method, f"{API}/studies/{name}")
            assert answer.status_code in (404, 422)
            line(answer)

    def test_pages_of_trials(self, api: Api) -> None:
        finished(api.store)
        caller = api.caller("rita")
        found = caller.get(f"{API}/studies/sample/trials", params={"limit": 5, "offset": 2}).json()
        stored = api.store.trials("sample")
        assert [trial["id"] for trial in found["trials"]] == [2, 3, 4, 5, 6]
        assert (found["total"], found["next_offset"]) == (len(stored), 7)
        dense = caller.get(f"{API}/studies/sample/trials", params={"state": "REFERENCE"}).json()
        assert dense["total"] == len(dense["trials"]) == sum(trial.state.value == "REFERENCE" for trial in stored)
        both = caller.get(f"{API}/studies/sample/trials?state=REFERENCE&state=COMPLETE&limit=1000").json()
        assert both["total"] == len(both["trials"]) == len(stored)


class TestChanging:
    def test_priority_and_resources(self, api: Api) -> None:
        name = api.submit()
        patched = api.caller("ann").patch(f"{API}/studies/{name}", json={"priority": 7, "time_budget_s": 60})
        assert patched.status_code == 200
        assert (patched.json()["priority"], patched.json()["time_budget_s"]) == (7, 60)
        patched = api.caller("root").patch(f"{API}/studies/{name}", json={"max_concurrent": 2})
        assert (patched.json()["owner"], patched.json()["priority"], patched.json()["max_concurrent"]) == ("ann", 7, 2)
        assert api.store.queue.submission(name).changes == Changes(max_concurrent=2, time_budget_s=60)
        assert trail(api)[1:] == [
            ("ann", "change", "priority 0", "priority 7, time_budget_s 60"),
            ("root", "change", "priority 7, time_budget_s 60", "priority 7, max_concurrent 2, time_budget_s 60"),
        ]

    @pytest.mark.parametrize(
        "patch",
        [
            {"priority": 1001},
            {"priority": "high"},
            {"max_concurrent": 0},
            {"time_budget_s": 0},
            {"owner": "ben"},
            {"state": "FINISHED"},
            [],
        ],
    )
    def test_what_cannot_be_changed(self, api: Api, patch: object) -> None:
        name = api.submit()
        answer = api.caller("ann").patch(f"{API}/studies/{name}", json=patch)
        assert answer.status_code == 422
        line(answer)
        assert len(trail(api)) == 1

    @pytest.mark.parametrize("state", list(StudyState))
    def test_in_each_state(self, api: Api, state: StudyState) -> None:
        name = api.submit()
        writer = bring(api.store, name, state)
        answer = api.caller("ann").patch(f"{API}/studies/{name}", json={"max_concurrent": 3})
        if state.is_over:
            assert answer.status_code == 409
            assert line(answer) == f"study '{name}' is {state.lower()}, so there is nothing to change"
            return
        assert answer.status_code == 200
        request = {StudyState.STOPPING: "pause"}.get(state, "apply" if writer is not None else None)
        assert api.caller("rita").get(f"{API}/studies/{name}").json()["request"] == request

"""Webhooks: where they may lead, who sees them, and what they are told."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path
from typing import Any

import pytest
from hearing import listening
from queued_studies import begun, bring, finished
from sample_study import DEIT_SMALL, MadeUpEvaluator, sample_spec
from served import API, Api, line

from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.search.controller import StagedController
from sparsesearch.service.delivery import deliver_due
from sparsesearch.service.news import tell_best
from sparsesearch.service.webhook_address import check_address
from sparsesearch.store.audit import Actor
from sparsesearch.store.sql import open_store
from sparsesearch.study.notification import NotifiedEvent
from sparsesearch.study.protocols import Controller
from sparsesearch.study.state import StopRequest, StudyState

ANN = Actor("ann")
PUBLIC, PRIVATE = "93.184.216.34", "127.0.0.1"


def named(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Let names of .example resolve to these addresses, one list after the other; returns what is connected to."""
    resolve, left, connected = socket.getaddrinfo, list(answers), []

    def resolved(host: Any, port: Any, *arguments: Any, **more: Any) -> Any:
        if not str(host).endswith(".example"):
            return resolve(host, port, *arguments, **more)
        found = left.pop(0) if len(left) > 1 else left[0]
        return [one for address in found for one in resolve(address, port, *arguments, **more)]

    def connect(address: tuple[str, int], *_: Any, **__: Any) -> socket.socket:
        connected.append(address[0])
        raise ConnectionRefusedError("only noted")

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    monkeypatch.setattr(socket, "create_connection", connect)
    return connected


class TestAddresses:
    @pytest.mark.parametrize(
        "host",
        [
            "127.0.0.1", "127.1", "2130706433", "0x7f000001", "0177.0.0.1", "localhost", "0.0.0.0", "0", "10.0.0.1",
            "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1",
            "255.255.255.255", "240.0.0.1", "[::1]", "[::]", "[fd00::1]", "[fe80::1]", "[ff02::1]",
            "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "[64:ff9b::a00:1]", "[2002:7f00:1::]",
            "[2001:db8::1]", "[2001:0:7f00:1::]", "[fe80::1%25lo]", "[::127.0.0.1]",
        ],
    )  # fmt: skip
    def test_private_ones_are_refused_when_a_webhook_is_added(self, api: Api, host: str) -> None:
        for scheme in ("http", "https"):
            answer = api.caller("ann").post(f"{API}/webhooks", json={"url": f"{scheme}://{host}:8080/x"})
            assert answer.status_code == 422, answer.text
            assert "is not at a public address" in line(answer) or "does not resolve" in line(answer)
        assert api.store.webhooks.all() == []

    @pytest.mark.parametrize("host", [PUBLIC, "[2606:2800:220:1:248:1893:25c8:1946]", "1.1.1.1:8443"])
    def test_public_ones_are_allowed(self, api: Api, host: str) -> None:
        answer = api.caller("ann").post(f"{API}/webhooks", json={"url": f"https://{host}/x"})
        assert answer.status_code == 201

    @pytest.mark.parametrize(
        "url",
        [
            "", "x", "//x", "ftp://1.1.1.1/", "file:///etc/passwd", "gopher://1.1.1.1/", "javascript:alert(1)", "http://",
            "http:///x", "https://user:secret@1.1.1.1/", "https://user@1.1.1.1/", "http://1.1.1.1:99999/",
            "http://1.1.1.1:x/", "http://[::1", "http://1.1.1.1/a b", "http://1.1.1.1/\r\nX-A: 1", "http://1.1.1.1/\0",
            "http://1.1.1.1\0.example/", "http://1.1.1.1/é", "http://1.1.1.1/\ud800", "http://.example/",
            "http://" + "a" * 300 + ".example/", "http://" + "a." * 200, "http://1.1.1.1/" + "x" * 2000, "http://%/",
            "http://xn--/",
        ],
    )  # fmt: skip
    def test_what_is_no_address(self, api: Api, url: str) -> None:
        answer = api.caller("ann").post(
            f"{API}/webhooks", content=json.dumps({"url": url}), headers={"Content-Type": "application/json"}
        )
        assert answer.status_code == 422, answer.text
        assert "secret" not in line(answer)

    @pytest.mark.parametrize(
        "more",
        [{"events": []}, {"events": ["study.x"]}, {"events": "study.best"}, {"secret": "whsec_x"}, {"owner": "b"}],
    )
    def test_what_is_no_webhook(self, api: Api, more: dict[str, object]) -> None:
        answer = api.caller("ann").post(f"{API}/webhooks", json={"url": f"https://{PUBLIC}/", **more})
        assert answer.status_code == 422
        line(answer)

    def test_a_name_with_one_private_address(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        named(monkeypatch, [PUBLIC, "10.0.0.7"])
        answer = api.caller("ann").post(f"{API}/webhooks", json={"url": "https://two.example/"})
        assert answer.status_code == 422

    def test_the_address_that_is_reached_best_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        named(monkeypatch, [PUBLIC, "2606:2800:220:1:248:1893:25c8:1946"])
        assert check_address("https://two.example/a?b=c").ip == PUBLIC
        assert check_address("https://two.example/a?b=c").target == "/a?b=c"

    def test_a_private_one_is_not_connected_to(self, api: Api) -> None:
        with listening() as listener:
            hook = api.store.webhooks.add(listener.url(), events={NotifiedEvent.FINISHED}, by=ANN)
            api.submit(name="mine")
            bring(api.store, "mine", StudyState.FINISHED)
            assert deliver_due(api.store) == 1
            assert listener.heard == []
        assert "is not at a public address" in api.store.webhooks.deliveries(hook.id)[0].status

    @pytest.mark.parametrize(
        ("answers", "connected"),
        [
            ([[PUBLIC], [PUBLIC], [PRIVATE]], [PUBLIC]),  # it changes after the check
            ([[PUBLIC], [PRIVATE], [PUBLIC]], []),  # it changes after the webhook was added
            ([[PUBLIC], [PUBLIC, PRIVATE]], []),
        ],
    )
    def test_a_name_that_changes_its_address(
        self, api: Api, monkeypatch: pytest.MonkeyPatch, answers: list[list[str]], connected: list[str]
    ) -> None:
        found = named(monkeypatch, *answers)
        body = {"url": "http://rebind.example/", "events": ["study.finished"]}
        assert api.caller("ann").post(f"{API}/webhooks", json=body).status_code == 201
        api.submit(name="mine")
        bring(api.store, "mine", StudyState.FINISHED)
        assert deliver_due(api.store) == 1
        assert found == connected, "what was checked is what is connected to"


class TestOwners:
    def test_each_sees_their_own(self, api: Api) -> None:
        ids = {}
        for name in ("ann", "ben"):
            ids[name] = api.caller(name).post(f"{API}/webhooks", json={"url": f"https://{PUBLIC}/{name}"}).json()["id"]
        for name, seen in (("ann", ["ann"]), ("ben", ["ben"]), ("root", ["ann", "ben"])):
            assert [hook["owner"] for hook in api.caller(name).get(f"{API}/webhooks").json()] == seen
        for method, path in (("DELETE", ""), ("GET", "/deliveries")):
            answer = api.caller("ben").request(method, f"{API}/webhooks/{ids['ann']}{path}")
            assert answer.status_code == 404
            assert line(answer) == f"no webhook '{ids['ann']}' of token 'ben'"
        assert api.caller("root").delete(f"{API}/webhooks/{ids['ann']}").status_code == 204
        assert api.caller("ann").get(f"{API}/webhooks").json() == []

    def test_a_secret_is_shown_once(self, api: Api) -> None:
        root = api.caller("root")
        hook = root.post(f"{API}/webhooks", json={"url": f"https://{PUBLIC}/"}).json()
        assert len(hook["secret"].removeprefix("whsec_")) >= 32
        finished(api.store)
        tell_best(api.store, "sample")
        paths = [
            "/webhooks",
            f"/webhooks/{hook['id']}/deliveries",
            "/audit",
            "/studies",
            "/studies/sample",
            "/openapi.json",
        ]
        answers = [root.get(f"{API}{path}") for path in paths]
        assert all(answer.status_code == 200 for answer in answers)
        answers += [root.get("/metrics"), root.delete(f"{API}/webhooks/{hook['id']}")]
        shown = "".join(answer.text + str(dict(answer.headers)) for answer in answers)
        assert hook["secret"].removeprefix("whsec_") not in shown
        for secret in api.secrets.values():
            assert secret not in shown


def run(api: Api, name: str) -> None:
    """A study from the queue to its end."""
    writer = begun(api.store, sample_spec(name))
    controller: Controller = StagedController(writer.spec, DEIT_SMALL)
    InlineDispatcher().run(controller, writer, MadeUpEvaluator())
    writer.set_state(StudyState.FINISHED)
    writer.close()


class TestNews:
    @pytest.fixture
    def hook(self, api: Api) -> str:
        return api.store.webhooks.add(f"https://{PUBLIC}/", events=set(NotifiedEvent), by=ANN).id

    def told(self, api: Api, hook: str) -> list[tuple[str, str, object]]:
        """Study, event and trial of all messages, oldest first."""
        bodies = [json.loads(one.body) for one in api.store.webhooks.deliveries(hook, limit=1000)]
        bodies.sort(key=lambda body: body["timestamp"])
        return [(body["data"]["study"], body["type"], body["data"].get("trial")) for body in bodies]

    def test_each_is_told_once(self, api: Api, hook: str) -> None:
        writer = begun(api.store, sample_spec("mine"))
        writer.set_state(StudyState.RUNNING)
        assert self.told(api, hook) == [("mine", "study.started", None)]
        writer.set_state(StudyState.PAUSED)
        writer.close()
        api.store.queue.enqueue("mine", by=ANN)
        api.store.queue.request("mine", StopRequest.CANCEL, by=ANN)
        events = [event for _, event, _ in self.told(api, hook)]
        assert events == ["study.started", "study.paused", "study.cancelled"]

    def test_two_tellers_tell_each_once(self, api: Api, hook: str, tmp_path: Path) -> None:
        stores = [open_store(api.workspace.settings.database_url) for _ in range(2)]
        stop, errors = threading.Event(), []

        def telling(number: int) -> None:
            try:
                while not stop.is_set():
                    tell_best(stores[number])
                for study in api.store.studies():
                    tell_best(stores[number], study)
            except Exception as error:
                errors.append(error)

        threads = [threading.Thread(target=telling, args=(number,)) for number in range(2)]
        for thread in threads:
            thread.start()
        for number in range(3):
            run(api, f"s{number}")
        stop.set()
        for thread in threads:
            thread.join()
        assert errors == []
        told = self.told(api, hook)
        for number in range(3):
            events = [(event, trial) for study, event, trial in told if study == f"s{number}"]
            assert len(events) == len(set(events)), "none twice"
            assert events[0][0] == "study.started"
            assert [event for event, _ in events].count("study.finished") == 1
            assert [event for event, _ in events].count("study.best") >= 1
        for store in stores:
            store.close()

    def test_what_is_long_past_is_not_told(self, api: Api) -> None:
        finished(api.store, "old")
        tell_best(api.store, "old")
        hook = api.store.webhooks.add(f"https://{PUBLIC}/", events=set(NotifiedEvent), by=ANN).id
        tell_best(api.store)
        assert self.told(api, hook) == []
        finished(api.store, "new")
        tell_best(api.store, "new")
        assert {study for study, _, _ in self.told(api, hook)} == {"new"}

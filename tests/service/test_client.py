"""`sparsesearch.Client` and `--server`."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from sample_study import DEIT_SMALL, MadeUpEvaluator, prepared
from served import Api, serving

import sparsesearch
from sparsesearch.artifacts.recipe import read_recipe
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.errors import (
    InfrastructureError,
    SpecError,
    StudyExistsError,
    StudyFailedError,
    StudyNotFoundError,
    UserInputError,
)
from sparsesearch.search.controller import StagedController
from sparsesearch.service import client as client_module
from sparsesearch.service.client import ServiceClient
from sparsesearch.store.audit import Actor
from sparsesearch.study.protocols import Controller
from sparsesearch.study.state import StopRequest, StudyState

DOCUMENT: dict[str, Any] = {
    "backbone": "deit_s",
    "budget": "45%:80%",
    "weights": "scratch",
    "sampler": "random",
    "fidelity": {"evaluations": 8, "finalists": 2},
}


@pytest.fixture
def client(api: Api, address: str) -> sparsesearch.Client:
    return sparsesearch.Client(address, api.secrets["ann"])


@pytest.fixture
def controlled(api: Api) -> Iterator[None]:
    """A controller in a thread, whose studies have made-up results."""
    stop = threading.Event()

    def run() -> None:
        while not stop.wait(0.05):
            claim = api.store.queue.claim()
            if claim is None:
                continue
            writer = api.store.open_claimed(claim.study, claim.lease)
            writer.resolve(prepared(writer.spec, DEIT_SMALL))
            controller: Controller = StagedController(writer.spec, DEIT_SMALL)
            InlineDispatcher().run(controller, writer, MadeUpEvaluator())
            writer.set_state(StudyState.FINISHED)
            writer.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield
    stop.set()
    thread.join()


class TestPython:
    def test_from_a_document_to_a_recipe(
        self, api: Api, client: sparsesearch.Client, controlled: None, tmp_path: Path
    ) -> None:
        study = client.submit(DOCUMENT, study="mine", priority=3, seed=7)
        assert api.store.queue.submission("mine").priority == 3
        assert api.store.spec("mine").seed == 7
        assert study.wait(timeout_s=60) is StudyState.FINISHED
        local = sparsesearch.Study("mine", api.workspace)
        assert study.front().equals(local.front())
        assert study.trials().equals(local.trials())
        assert study.best == local.best
        assert study.status().document() == local.status().document()
        recipe = read_recipe(study.export(tmp_path / "best.yaml"))
        assert recipe.provenance.study == "mine"
        assert study.report(tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
        assert client.studies() == ["mine"]
        assert client.study("mine").state is StudyState.FINISHED

    def test_a_document_in_a_file(self, api: Api, client: sparsesearch.Client, tmp_path: Path) -> None:
        (tmp_path / "study.yaml").write_text("backbone: deit_pico\nbudget: 60%\n", encoding="utf-8")
        study = client.submit(tmp_path / "study.yaml", budget="40%")
        assert api.store.spec(study.name).budget.high == 0.4
        assert study.wait(timeout_s=0.1) is StudyState.QUEUED
        assert study.stop() is StudyState.PAUSED
        study.resume()
        assert study.state is StudyState.QUEUED
        with pytest.raises(SpecError, match="resume it without options"):
            study.resume(device="cpu")

    def test_errors(self, client: sparsesearch.Client) -> None:
        client.submit(DOCUMENT, study="mine")
        with pytest.raises(StudyExistsError, match="study 'mine' already exists; resume it with"):
            client.submit(DOCUMENT, study="mine")
        with pytest.raises(StudyNotFoundError, match="no study 'other'"):
            client.study("other")
        with pytest.raises(SpecError, match="is not in a folder that studies may read"):
            client.submit(DOCUMENT, data="folder:/etc")
        with pytest.raises(StudyFailedError, match="study 'mine' has no results to plot yet"):
            client._client.get("/studies/mine/front", format="png")
        with pytest.raises(StudyFailedError, match="study 'mine' has no finished candidate yet"):
            client._client.get("/studies/mine/recipe")

    def test_where_the_server_and_the_token_are_from(
        self, api: Api, address: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("SPARSESEARCH_SERVER", "SPARSESEARCH_TOKEN"):
            monkeypatch.delenv(name, raising=False)
        with pytest.raises(SpecError, match="set SPARSESEARCH_SERVER"):
            sparsesearch.Client()
        monkeypatch.setenv("SPARSESEARCH_SERVER", f"{address}/")
        with pytest.raises(SpecError, match="needs a token; set SPARSESEARCH_TOKEN"):
            sparsesearch.Client()
        monkeypatch.setenv("SPARSESEARCH_TOKEN", f"{api.secrets['rita']}\n")
        assert sparsesearch.Client().studies() == []

    @pytest.mark.parametrize("server", ["", "localhost:8000", "ftp://x", "http://", "http://[::1", "http://x:y", "x"])
    def test_servers_that_are_none(self, server: str) -> None:
        with pytest.raises(SpecError, match=r"invalid server|no server"):
            sparsesearch.Client(server, "sk_x")

    @pytest.mark.parametrize("token", ["sk_\u00e9", "sk_a\nX-A: b", "sk a"])
    def test_tokens_that_are_none(self, token: str) -> None:
        with pytest.raises(SpecError, match="characters that no token has"):
            sparsesearch.Client("http://localhost", token)


class TestServiceClient:
    def test_a_token_that_is_refused(self, api: Api, address: str) -> None:
        with pytest.raises(UserInputError, match=f"{address}: no valid token; send the header") as error:
            ServiceClient(address, "sk_wrong").get("/studies")
        assert type(error.value) is UserInputError
        with pytest.raises(UserInputError, match="token 'rita' has the scope read; this needs submit"):
            ServiceClient(address, api.secrets["rita"]).submit(DOCUMENT)

    def test_nobody_listens(self) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            with pytest.raises(InfrastructureError, match=r"does not answer \(ConnectionError\); check the address"):
                ServiceClient(f"http://127.0.0.1:{free.getsockname()[1]}", "sk_x").get("/studies")

    def test_what_is_wrong_for_a_while(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        api = Api(tmp_path, rate=0.5)
        with serving(api.app) as address:
            client = ServiceClient(address, api.secrets["rita"])
            client.get("/studies")
            with pytest.raises(InfrastructureError, match="makes too many requests; wait a second"):
                client.get("/studies")
            monkeypatch.setattr(api.store, "version", lambda name: 1 / 0, raising=False)
            with pytest.raises(InfrastructureError, match="the server failed; its log has the details"):
                ServiceClient(address, api.secrets["ann"]).get("/studies/x/trials")

    def test_the_password_of_another_file_is_not_sent(
        self, api: Api, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password secret\n", encoding="utf-8")
        monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
        assert ServiceClient(address, api.secrets["rita"]).get("/studies").ok

    def test_it_follows_no_redirect(self) -> None:
        with _answering(301, {"Location": "https://evil.example/api/v1/studies"}) as (address, heard):
            for call in (lambda c: c.get("/studies"), lambda c: c.submit(DOCUMENT)):
                with pytest.raises(InfrastructureError, match=r"leads to https://evil\.example; give that address"):
                    call(ServiceClient(address, "sk_x"))
        assert len(heard) == 2

    @pytest.mark.parametrize("body", ["<html>", "[]", '"x"', "{}"])
    def test_it_is_another_service(self, body: str) -> None:
        said = pytest.raises(InfrastructureError, match="is no service of sparsesearch; check the address")
        with _answering(200, {}, body) as (address, _), said:
            ServiceClient(address, "sk_x").submit(DOCUMENT)

    @pytest.mark.parametrize("body", ["", "<html>\n502 Bad Gateway", '{"detail": 1}', "[]", "\xff"])
    def test_errors_of_what_is_in_between(self, body: str) -> None:
        with _answering(502, {}, body) as (address, _), pytest.raises(InfrastructureError) as error:
            ServiceClient(address, "sk_x").get("/studies")
        assert "\n" not in str(error.value)


class TestEvents:
    def test_a_study_is_followed(self, api: Api, client: sparsesearch.Client, controlled: None) -> None:
        name = client.submit(DOCUMENT).name
        events = list(client.events(name))
        assert events[-1] == {"id": events[-1]["id"], "event": "end", "data": events[-1]["data"]}
        last = {event["data"]["id"]: event["data"] for event in events if event["event"] == "trial"}
        assert last == {trial.number: json.loads(json.dumps(trial.public())) for trial in api.store.trials(name)}
        half = events[len(events) // 2]["id"]
        again = [event for event in client.events(name, after=half) if event["event"] == "trial"]
        ids = [event["id"] for event in events]
        last_of = {event["data"]["id"]: event["id"] for event in events if event["event"] == "trial"}
        expected = sorted(ids.index(one) for one in last_of.values() if ids.index(one) > ids.index(half))
        assert [event["id"] for event in again] == [ids[index] for index in expected]

    def test_it_goes_on_after_a_server_was_started_again(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_module, "_AGAIN_S", 0.1)
        name, port = api.submit(), 0
        with serving(api.app) as address:
            port = int(address.rpartition(":")[2])
            events = ServiceClient(address, api.secrets["rita"]).events(name)
            assert next(events)["data"]["state"] == "QUEUED"
        api.store.queue.request(name, StopRequest.CANCEL, by=Actor("ann"))
        later: list[Any] = []
        thread = threading.Thread(target=lambda: later.extend(events))
        thread.start()
        time.sleep(0.5)
        with serving(api.app, port=port):
            thread.join(30)
        assert [event["event"] for event in later] == ["study", "end"]

    def test_a_server_that_does_not_come_back(self, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(client_module, "_AGAIN_S", 0.05)
        monkeypatch.setattr(client_module, "_LOST_S", 0.3)
        with serving(api.app) as address:
            events = ServiceClient(address, api.secrets["rita"]).events(api.submit())
            next(events)
        with pytest.raises(InfrastructureError, match="does not answer"):
            next(events)

    def test_an_unknown_study(self, client: sparsesearch.Client) -> None:
        with pytest.raises(StudyNotFoundError):
            next(client.events("nothing"))


@contextmanager
def _answering(status: int, headers: dict[str, str], body: str = "") -> Iterator[tuple[str, list[str]]]:
    """A server that always answers the same."""
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(status)
            text = body.encode("latin-1")
            for name, value in {**headers, "Content-Length": str(len(text))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text)

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            """Write nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

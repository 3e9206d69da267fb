"""What one caller may ask for: sizes, rates and times; and the lines that are logged about it."""

from __future__ import annotations

import json
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests
from queued_studies import DOCUMENT
from running import running_service
from served import API, Api, bearer, line, serving

from sparsesearch.service import server as server_module
from sparsesearch.service.access import COOKIE
from sparsesearch.service.limits import Bucket, access_log
from sparsesearch.store.audit import Actor

MEGABYTE = 2**20


@pytest.fixture
def connect(address: str) -> Iterator[Callable[[], socket.socket]]:
    """Opens connections to the server of `api`."""
    parts, opened = urlsplit(address), []

    def one() -> socket.socket:
        found = socket.create_connection((parts.hostname or "", parts.port or 0), timeout=30)
        opened.append(found)
        return found

    yield one
    for found in opened:
        found.close()


def memory() -> float:
    """Memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MEGABYTE


class TestBodies:
    @pytest.mark.parametrize("name", ["ann", None])
    def test_one_of_100_megabytes(self, api: Api, connect: Callable[[], socket.socket], name: str | None) -> None:
        head = f"POST {API}/studies HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        if name is not None:
            head += f"Authorization: Bearer {api.secrets[name]}\r\n"
        before, began = memory(), time.monotonic()
        connection = connect()
        connection.sendall(f"{head}Content-Length: {100 * MEGABYTE}\r\n\r\n".encode() + b"x" * 1000)
        answer = connection.recv(65536)
        assert time.monotonic() - began < 2
        assert answer.startswith(b"HTTP/1.1 413 ")
        with suppress(OSError):  # what comes all the same is read and left out, or not read
            for _ in range(100):
                connection.sendall(b"x" * MEGABYTE)
        assert memory() - before < 30

    def test_one_of_chunks_without_end(self, api: Api, connect: Callable[[], socket.socket]) -> None:
        head = f"POST {API}/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.secrets['ann']}\r\n"
        before = memory()
        connection = connect()
        connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
        connection.settimeout(0.05)
        chunk, answer, sent = b"10000\r\n" + b"x" * 65536 + b"\r\n", b"", 0
        while not answer and sent < 200:
            with suppress(TimeoutError):
                connection.sendall(chunk)
                sent += 1
                answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 413 "), "long before 100 megabytes"
        assert memory() - before < 30

    def test_the_largest_that_is_allowed(self, api: Api) -> None:
        body = json.dumps(DOCUMENT)
        headers = {**bearer(api.secrets["ann"]), "Content-Type": "application/json"}
        for size, status in ((2 * MEGABYTE, 201), (2 * MEGABYTE + 1, 413)):
            answer = api.caller().post(f"{API}/studies", content=body + " " * (size - len(body)), headers=headers)
            assert answer.status_code == status
        assert line(answer) == "the body of the request is larger than 2,097,152 bytes"

    @pytest.mark.parametrize("length", ["-1", "x", "9" * 4000, "1e3", "²"])
    def test_lengths_that_are_none(self, connect: Callable[[], socket.socket], length: str) -> None:
        connection = connect()
        connection.sendall(f"POST {API}/studies HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n".encode())
        assert connection.recv(65536).startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 413 "))

    def test_a_header_that_is_too_long(self, address: str, connect: Callable[[], socket.socket]) -> None:
        connection = connect()
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        with suppress(OSError):  # it does not wait for the end
            connection.sendall(b"X-Long: " + b"x" * 200_000)
        with suppress(ConnectionResetError):
            assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")
        assert requests.get(f"{address}/healthz", timeout=10).ok


class TestSlowClients:
    REQUESTS = (
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-A: " + b"a" * 1000,
        b"POST /api/v1/studies HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"x" * 900,
        b"",
    )

    @pytest.mark.parametrize("request_", REQUESTS, ids=["headers", "body", "nothing"])
    def test_they_are_cut_and_keep_nobody_waiting(
        self, address: str, connect: Callable[[], socket.socket], request_: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(server_module, "ARRIVAL_S", 1.5)
        began, slow = time.monotonic(), [connect() for _ in range(50)]
        longest, cut = 0.0, set()
        for position in range(400):
            for number, connection in enumerate(slow):
                if number not in cut and position < len(request_):
                    try:
                        connection.send(request_[position : position + 1])
                    except OSError:
                        cut.add(number)
            at = time.monotonic()
            assert requests.get(f"{address}/healthz", timeout=10).ok
            longest = max(longest, time.monotonic() - at)
            if at - began > 2.5:
                break
            time.sleep(0.02)
        assert longest < 1
        for connection in slow:
            connection.settimeout(5)
            try:
                assert connection.recv(65536) == b""
            except ConnectionResetError:
                continue

    def test_requests_after_one_another_are_not_cut(self, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "ARRIVAL_S", 0.4)
        with requests.Session() as session:
            for _ in range(8):
                assert session.get(f"{address}/healthz", timeout=10).ok
                time.sleep(0.1)

    def test_answers_may_take_long(self, api: Api, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(server_module, "ARRIVAL_S", 0.3)
        url = f"{address}{API}/studies/{api.submit()}/events"
        with requests.get(url, headers=bearer(api.secrets["rita"]), stream=True, timeout=10) as stream:
            lines = stream.iter_lines(chunk_size=1)
            assert next(lines) == b"event: study"
            time.sleep(1)
            api.store.queue.delete(api.store.studies()[0], by=Actor("ann"))
            assert b"event: end" in list(lines)

    def test_pictures_keep_nobody_waiting(self, module_api: Api) -> None:
        headers = bearer(module_api.secrets["rita"])
        with serving(module_api.app) as address:
            url = f"{address}{API}/studies/sample/report"
            found: list[int] = []
            threads = [
                threading.Thread(
                    target=lambda: found.append(requests.get(url, headers=headers, timeout=120).status_code)
                )
                for _ in range(60)
            ]
            for thread in threads:
                thread.start()
            longest = 0.0
            while any(thread.is_alive() for thread in threads):
                at = time.monotonic()
                assert requests.get(f"{address}{API}/studies", headers=headers, timeout=60).ok
                longest = max(longest, time.monotonic() - at)
        assert longest < 5
        assert set(found) == {200, 429}, "more than can be drawn are refused"


class TestRates:
    def test_a_bucket(self) -> None:
        now = [0.0]
        bucket = Bucket(2.0, clock=lambda: now[0])
        assert [bucket.take("a") for _ in range(6)] == [True] * 4 + [False] * 2
        assert bucket.take("b"), "each has its own"
        now[0] += 0.5
        assert [bucket.take("a") for _ in range(2)] == [True, False]
        now[0] += 1000
        assert [bucket.take("a") for _ in range(5)] == [True] * 4 + [False]

    def test_a_bucket_of_less_than_one_a_second(self) -> None:
        now = [0.0]
        bucket = Bucket(0.1, clock=lambda: now[0])
        assert [bucket.take("a"), bucket.take("a")] == [True, False]
        now[0] += 10.01
        assert bucket.take("a")

    def test_buckets_take_no_memory_without_end(self) -> None:
        bucket = Bucket(1.0)
        for number in range(20_000):
            bucket.take(str(number))
        assert len(bucket._left) <= 10_000

    def test_a_token_that_asks_too_often(self, tmp_path: Path) -> None:
        api = Api(tmp_path, rate=2.0)
        rita = api.caller("rita")
        answers = [rita.get(f"{API}/studies") for _ in range(8)]
        assert [answer.status_code for answer in answers[:4]] == [200] * 4
        assert answers[-1].status_code == 429
        assert answers[-1].headers["retry-after"] == "1"
        assert line(answers[-1]) == "token 'rita' makes too many requests; wait a second"
        assert api.caller("ann").get(f"{API}/studies").status_code == 200, "others do not notice"
        assert rita.get("/healthz").status_code == 200
        time.sleep(1)
        assert rita.get(f"{API}/studies").status_code == 200

    def test_guessing_is_slow(self, api: Api) -> None:
        answers = [api.caller().get(f"{API}/studies", headers=bearer(f"sk_{number}")) for number in range(8)]
        assert [answer.status_code for answer in answers[:4]] == [401] * 4
        assert answers[-1].status_code == 429
        assert answers[-1].headers["retry-after"] == "60"
        line(answers[-1])
        assert api.caller("rita").get(f"{API}/studies").status_code == 200, "from the same address"


class TestLog:
    def test_a_line_for_each_request(self, api: Api, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, logger=access_log.name)
        secret = api.secrets["ann"]
        answers = [
            api.caller("ann").get(f"{API}/studies?token={secret}"),
            api.caller().get(f"{API}/studies", headers=bearer(f"{secret}x")),
            api.caller().get(f"{API}/studies", headers={"Cookie": f"{COOKIE}={secret}"}),
            api.caller("ann").post(f"{API}/studies", json=DOCUMENT),
            api.caller("ann").get(f"{API}/nothing/a%0Ab"),
            api.caller().get("/healthz"),
        ]
        lines = [record.getMessage() for record in caplog.records if record.name == access_log.name]
        entries = [json.loads(one) for one in lines]
        assert [entry["request_id"] for entry in entries] == [answer.headers["x-request-id"] for answer in answers]
        assert len({entry["request_id"] for entry in entries}) == len(entries)
        assert [entry["status"] for entry in entries] == [200, 401, 200, 201, 404, 200]
        assert [entry["token"] for entry in entries] == ["ann", None, "ann", "ann", None, None]
        assert [entry["method"] for entry in entries] == ["GET", "GET", "GET", "POST", "GET", "GET"]
        assert entries[0]["path"] == f"{API}/studies"
        assert all(entry["ms"] >= 0 and entry["client"] for entry in entries)
        assert "\n" not in "".join(lines)
        assert secret.removeprefix("sk_") not in caplog.text

    def test_a_failure_of_the_server(
        self, api: Api, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        caplog.set_level(logging.INFO, logger=access_log.name)
        monkeypatch.setattr(api.store, "count_studies", lambda: 1 / 0, raising=False)
        answer = api.caller("rita").get(f"{API}/studies")
        assert answer.status_code == 500
        assert line(answer) == "the server failed; its log has the details under this request id"
        entry = next(json.loads(one.getMessage()) for one in caplog.records if one.name == access_log.name)
        assert (entry["status"], entry["token"]) == (500, "rita")
        assert f"request {entry['request_id']} (GET {API}/studies) failed" in caplog.text
        assert "ZeroDivisionError" in caplog.text

    @pytest.mark.slow
    def test_the_command_writes_it(self, tmp_path: Path) -> None:
        with running_service(tmp_path / "home", f"sqlite:///{tmp_path / 'studies.db'}") as service:
            secret = service.token("ann", "submit")
            address = service.serve()
            answer = requests.get(f"{address}{API}/studies", headers=bearer(secret), timeout=10)
            until = time.monotonic() + 20  # it is written when the answer is sent
            while answer.headers["x-request-id"] not in (log := service.logs()) and time.monotonic() < until:
                time.sleep(0.05)
        assert "uvicorn" not in answer.headers.get("server", "")
        entries = [json.loads(one) for one in log.splitlines() if one.startswith("{")]
        mine = [entry for entry in entries if entry["request_id"] == answer.headers["x-request-id"]]
        assert [(entry["token"], entry["path"], entry["status"]) for entry in mine] == [("ann", f"{API}/studies", 200)]
        assert secret not in log
        assert log.count(answer.headers["x-request-id"]) == 1

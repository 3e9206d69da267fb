"""Messages to webhooks, as a server hears them."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from hearing import Heard, Listener, listening, write_certificate
from queued_studies import bring, finished
from served import API, Api, line

from sparsesearch.service import delivery
from sparsesearch.service.delivery import deliver_due, signature
from sparsesearch.service.news import tell_best
from sparsesearch.store.audit import Actor
from sparsesearch.study.notification import Delivery, NotifiedEvent, Webhook
from sparsesearch.study.state import StudyState

ANN = Actor("ann")
FINISHED = {NotifiedEvent.FINISHED}


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as found:
        yield found


@pytest.fixture
def told(api: Api, listener: Listener) -> Webhook:
    """A webhook to which there is one message to deliver."""
    hook = api.store.webhooks.add(listener.url("/hook?key=1"), events=FINISHED, by=ANN)
    tell(api)
    return hook


def tell(api: Api, study: str = "mine") -> None:
    """A study from the queue to its end."""
    api.submit(name=study)
    bring(api.store, study, StudyState.FINISHED)


def deliver(api: Api, **options: Any) -> int:
    return deliver_due(api.store, **{"allow_private": True, **options})


def last(api: Api, hook: Webhook) -> Delivery:
    return api.store.webhooks.deliveries(hook.id)[0]


def check_signed(heard: Heard, secret: str) -> None:
    """Check a signature as https://www.standardwebhooks.com describes it, without our own code."""
    key = base64.b64decode(secret.split("_")[1])
    content = ".".join([heard.headers["webhook-id"], heard.headers["webhook-timestamp"], heard.body])
    expected = base64.b64encode(hmac.digest(key, content.encode(), hashlib.sha256)).decode()
    assert heard.headers["webhook-signature"] == f"v1,{expected}"
    assert abs(int(heard.headers["webhook-timestamp"]) - time.time()) < 60


def test_signatures_are_those_of_the_standard() -> None:
    hook = Webhook(
        id="wh", url="https://x", secret="whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", events=(), owner="a", created_at=0
    )
    made = signature(hook, message_id="msg_p5jXN8AQM9LWM0D4loKWxJek", timestamp=1614265330, body='{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=", "the example of its documentation"


def test_a_study_is_followed_from_the_api_to_the_listener(tmp_path: Path, listener: Listener) -> None:
    api = Api(tmp_path, allow_private_webhooks=True)
    body = {"url": listener.url(), "events": ["study.finished", "study.best"]}
    hook = api.caller("ann").post(f"{API}/webhooks", json=body).json()
    finished(api.store)
    tell_best(api.store, "sample")
    assert deliver(api) == 2
    assert deliver(api) == 0
    by_type = {json.loads(heard.body)["type"]: heard for heard in listener.heard}
    assert set(by_type) == {"study.best", "study.finished"}
    for heard in listener.heard:
        check_signed(heard, hook["secret"])
        assert heard.headers["content-type"] == "application/json"
        assert heard.headers["host"] == f"127.0.0.1:{listener.port}"
        assert hook["secret"] not in str(heard)
    message = json.loads(by_type["study.finished"].body)
    assert set(message) == {"type", "timestamp", "data"}
    assert (message["data"]["study"], message["data"]["state"]) == ("sample", "FINISHED")
    best = json.loads(by_type["study.best"].body)["data"]
    assert message["data"]["best"] == {key: value for key, value in best.items() if key != "study"}
    assert 0 < best["val_top1"] < 1
    shown = api.caller("ann").get(f"{API}/webhooks/{hook['id']}/deliveries").json()
    assert [(one["status"], one["attempts"], one["next_at"]) for one in shown] == [("delivered", 1, None)] * 2


class TestFailures:
    def test_it_is_tried_again_and_later_each_time(
        self, api: Api, listener: Listener, told: Webhook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        listener.answers = [(status, {}) for status in (500, 503, 404, 429, 302, 199, 400)]
        now = [time.time()]
        monkeypatch.setattr(api.store, "_clock", lambda: now[0])
        monkeypatch.setattr(delivery.time, "time", lambda: now[0])
        pauses = []
        while (found := last(api, told)).next_at is not None:
            now[0] = found.next_at - 0.5
            assert deliver(api) == (1 if found.attempts == 0 and now[0] > found.created_at else 0)
            now[0] = found.next_at
            assert deliver(api) == 1
            after = last(api, told)
            assert after.attempts == found.attempts + 1
            if after.next_at is not None:
                pauses.append(after.next_at - now[0])
        assert found.status == "delivered"
        assert found.attempts == 8
        assert len({heard.headers["webhook-id"] for heard in listener.heard}) == 1
        assert len({heard.body for heard in listener.heard}) == 1
        assert len({heard.headers["webhook-timestamp"] for heard in listener.heard}) > 4, "each attempt has its own"
        for pause, planned in zip(pauses, delivery.PAUSES_S, strict=True):
            assert 0.8 * planned <= pause <= 1.2 * planned

    def test_it_is_given_up_in_the_end(
        self, api: Api, listener: Listener, told: Webhook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "PAUSES_S", (0.0,) * 7)
        listener.answers = [(500, {})] * 20
        assert [deliver(api) for _ in range(10)] == [1] * 8 + [0] * 2
        found = last(api, told)
        assert (found.status, found.attempts, found.next_at) == ("answered with status 500", 8, None)

    def test_redirects_are_not_followed(self, api: Api, listener: Listener, told: Webhook) -> None:
        with listening() as other:
            listener.answers = [(status, {"location": other.url()}) for status in (301, 302, 303, 307, 308)]
            for status in (301, 302, 303, 307, 308):
                tell(api, f"s{status}")
            assert deliver(api) == 6
            assert other.heard == []
        assert [heard.path for heard in listener.heard] == ["/hook?key=1"] * 6
        statuses = {one.status for one in api.store.webhooks.deliveries(told.id)}
        assert "answered with status 307" in statuses

    def test_a_listener_that_is_not_there(self, api: Api, told: Webhook, listener: Listener) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            hook = api.store.webhooks.add(f"http://127.0.0.1:{free.getsockname()[1]}/", events=FINISHED, by=ANN)
            tell(api, "other")
            assert deliver(api) == 3
        assert last(api, hook).status == "not delivered: [Errno 111] Connection refused"
        assert len(listener.heard) == 2, "others do not notice"

    @pytest.mark.parametrize(
        "url", ["http://127.0.0.1/\u00e9", "http://127.0.0.1/a b", "http://[::1", "http://.x/", "x"]
    )
    def test_an_address_that_cannot_be_sent_to_stops_nothing(
        self, api: Api, told: Webhook, listener: Listener, url: str
    ) -> None:
        hook = api.store.webhooks.add(url, events=FINISHED, by=ANN)  # of an older version
        tell(api, "other")
        assert deliver(api) == 3
        assert len(listener.heard) == 2
        assert last(api, hook).status.startswith(("invalid webhook URL", "the host of the webhook", "not delivered"))

    def test_one_that_answers_slowly_keeps_no_others_waiting(
        self, api: Api, listener: Listener, told: Webhook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(delivery, "_TIMEOUT_S", 1.0)

        def a_byte_at_a_time(handler: BaseHTTPRequestHandler) -> None:
            with suppress(OSError):
                for byte in b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 1000:
                    handler.wfile.write(bytes([byte]))
                    time.sleep(0.1)

        with listening() as slow:
            slow.meanwhile = a_byte_at_a_time
            hooks = [api.store.webhooks.add(slow.url(), events=FINISHED, by=ANN) for _ in range(8)]
            tell(api, "other")
            began = time.monotonic()
            assert deliver(api) == 10
            assert time.monotonic() - began < 4
        assert len(listener.heard) == 2
        assert all(last(api, hook).status.startswith("not delivered") for hook in hooks)


class TestHttps:
    @pytest.fixture
    def certificate(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        """The certificate of hooks.example, which is on this machine."""
        write_certificate(tmp_path / "host.pem", "hooks.example")
        resolve = socket.getaddrinfo

        def resolved(host: Any, *arguments: Any, **more: Any) -> Any:
            return resolve("127.0.0.1" if str(host).endswith(".example") else host, *arguments, **more)

        monkeypatch.setattr(socket, "getaddrinfo", resolved)
        return tmp_path / "host.pem"

    def test_the_certificate_is_that_of_the_name(
        self, api: Api, certificate: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with listening(certificate) as listener:
            right = api.store.webhooks.add(listener.url(host="hooks.example", scheme="https"), events=FINISHED, by=ANN)
            wrong = api.store.webhooks.add(listener.url(host="evil.example", scheme="https"), events=FINISHED, by=ANN)
            tell(api)
            assert deliver(api) == 2
        assert last(api, right).status == "delivered"
        assert "certificate" in last(api, wrong).status
        (heard,) = listener.heard
        assert heard.headers["host"] == f"hooks.example:{listener.port}"
        check_signed(heard, right.secret)

    def test_a_certificate_that_nobody_trusts(self, api: Api, certificate: Path) -> None:
        with listening(certificate) as listener:
            hook = api.store.webhooks.add(listener.url(host="hooks.example", scheme="https"), events=FINISHED, by=ANN)
            tell(api)
            deliver(api)
        assert "self-signed certificate" in last(api, hook).status
        assert listener.heard == []


def test_a_message_of_a_deleted_webhook_is_not_sent(api: Api, listener: Listener, told: Webhook) -> None:
    assert api.caller("ann").delete(f"{API}/webhooks/{told.id}").status_code == 204
    assert deliver(api) == 0
    assert listener.heard == []
    assert "no webhook" in line(api.caller("ann").get(f"{API}/webhooks/{told.id}/deliveries"))

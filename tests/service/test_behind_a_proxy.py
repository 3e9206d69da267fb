"""`serve` as operators set it up: behind a proxy, and with a collector of OpenTelemetry."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from hearing import listening
from running import Service, running_service, until
from served import API, bearer

pytestmark = pytest.mark.slow


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with running_service(tmp_path / "home", f"sqlite:///{tmp_path / 'studies.db'}") as found:
        yield found


def clients(service: Service, answer: requests.Response) -> list[str]:
    """From where a request came, as the log says."""
    request_id = answer.headers["x-request-id"]
    until(lambda: request_id in service.logs(), seconds=20, what="the request is logged")
    entries = [json.loads(line) for line in service.logs().splitlines() if line.startswith("{")]
    return [entry["client"] for entry in entries if entry["request_id"] == request_id]


def test_the_address_behind_a_proxy_is_believed_if_the_proxy_is_known(service: Service) -> None:
    forwarded = {"X-Forwarded-For": "198.51.100.7"}
    for flags, client in (((), "127.0.0.1"), (("--proxy", "127.0.0.0/8"), "198.51.100.7")):
        answer = requests.get(f"{service.serve(*flags)}/healthz", headers=forwarded, timeout=10)
        assert clients(service, answer) == [client]


def test_requests_are_traced_where_a_collector_is_named(service: Service) -> None:
    secret = service.token("ann", "read")
    with listening() as collector:
        service.environment["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{collector.port}"
        service.environment["OTEL_BSP_SCHEDULE_DELAY"] = "200"
        address = service.serve()
        assert requests.get(f"{address}{API}/studies?limit=3", headers=bearer(secret), timeout=10).ok

        def traces() -> str:
            return "".join(heard.body for heard in collector.heard if heard.path == "/v1/traces")

        until(lambda: f"{API}/studies" in traces(), seconds=60, what="a trace arrives")
        service.stop()
        told = "".join(heard.body for heard in collector.heard)
    assert secret not in told
    assert "/readyz" not in traces()

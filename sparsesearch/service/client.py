"""The API of a service from Python: requests with a token, and errors as exceptions."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote, urlsplit

import requests
import requests.auth

from sparsesearch.errors import (
    InfrastructureError,
    SpecError,
    StudyBusyError,
    StudyExistsError,
    StudyFailedError,
    StudyNotFoundError,
    StudyStateError,
    UserInputError,
)

SERVER, TOKEN = "SPARSESEARCH_SERVER", "SPARSESEARCH_TOKEN"
_API = "/api/v1"
_TIMEOUT_S = (10.0, 120.0)
_LOST_S, _AGAIN_S = 60.0, 1.0
_MOST_LINE = 1000
_CONFLICTS = (
    ("already exists", StudyExistsError),
    ("is being run by", StudyBusyError),
    ("has no ", StudyFailedError),
)


def server_of_environment() -> str | None:
    """The address of `SPARSESEARCH_SERVER`; None if it is not set."""
    return os.environ.get(SERVER) or None


class ServiceClient:
    """Requests to one service.

    Args:
        server: Its address, such as `https://search.example.org`.
        token: A token of `sparsesearch token create`; None for `SPARSESEARCH_TOKEN`.

    Raises:
        SpecError: The address is none, or there is no token.
    """

    def __init__(self, server: str, token: str | None = None) -> None:
        if not _is_address(server):
            raise SpecError(f"invalid server {server!r}; use a form such as https://HOST or http://localhost:8000")
        secret = (token or os.environ.get(TOKEN) or "").strip()
        if not secret:
            raise SpecError(f"{server} needs a token; set {TOKEN} (created with: sparsesearch token create NAME)")
        if not all("!" <= character <= "~" for character in secret):
            raise SpecError(f"the token for {server} has characters that no token has; check {TOKEN}")
        self.server = server.rstrip("/")
        self._session = requests.Session()
        self._session.auth = _Bearer(secret)  # a header would be replaced by what ~/.netrc has for the host

    def get(self, path: str, **query: object) -> requests.Response:
        """GET a path below /api/v1; parameters that are None are left out."""
        return self.request("GET", path, params={key: value for key, value in query.items() if value is not None})

    def request(self, method: str, path: str, **options: Any) -> requests.Response:
        """Make a request.

        Raises:
            InfrastructureError: The service does not answer, or has a fault.
            UserInputError: It refuses the request, with the line of the command line.
        """
        url = f"{self.server}{_API}{path}"
        try:
            found = self._session.request(method, url, timeout=_TIMEOUT_S, allow_redirects=False, **options)
        except requests.RequestException as error:
            raise InfrastructureError(
                f"{self.server} does not answer ({type(error).__name__}); check the address, and that the service runs"
            ) from error
        if found.is_redirect:
            place = found.headers["location"].partition(_API)[0] or "another path"
            raise InfrastructureError(f"{self.server} leads to {place}; give that address if it is the right one")
        if found.status_code >= 400:
            raise _error(found, self.server)
        return found

    def events(self, study: str, *, after: str = "") -> Iterator[dict[str, Any]]:
        """The changes of a study as they come: `{"id", "event", "data"}`; ends with the study.

        A connection that is lost is opened again, for a minute, and goes on after the last event.
        """
        name, lost_at = quote(study, safe=""), -math.inf
        while True:
            headers = {"Last-Event-ID": after, "Accept": "text/event-stream"}
            try:
                opened = self.request("GET", f"/studies/{name}/events", headers=headers, stream=True)
            except InfrastructureError:
                if time.monotonic() - lost_at > _LOST_S:
                    raise
                time.sleep(_AGAIN_S)
                continue
            with opened as response:
                fields: dict[str, str] = {}
                try:
                    for raw in response.iter_lines(chunk_size=1):
                        line = raw.decode("utf-8", "replace")
                        if line:
                            key, _, value = line.partition(":")
                            fields[key] = value.removeprefix(" ")
                            continue
                        if "event" in fields:
                            after = fields.get("id", after)
                            yield {"id": after, "event": fields["event"], "data": json.loads(fields["data"])}
                            if fields["event"] == "end":
                                return
                        fields = {}
                except requests.RequestException:
                    pass
            lost_at = time.monotonic()
            time.sleep(_AGAIN_S)

    def submit(self, document: Mapping[str, Any], *, priority: int = 0) -> str:
        """Submit a study and return its name."""
        body = {**document, **({"priority": priority} if priority else {})}
        answer = self.request("POST", "/studies", json=body)
        try:
            return str(answer.json()["study"])
        except (ValueError, KeyError, TypeError) as error:
            raise InfrastructureError(f"{self.server} is no service of sparsesearch; check the address") from error


class _Bearer(requests.auth.AuthBase):
    def __init__(self, secret: str) -> None:
        self._secret = secret

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._secret}"
        return request


def _is_address(server: str) -> bool:
    try:
        parts = urlsplit(server)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _error(found: requests.Response, server: str) -> Exception:
    try:
        line = str(found.json()["error"])
    except (ValueError, KeyError, TypeError):
        line = found.text.strip().splitlines()[0] if found.text.strip() else found.reason
    line = line[:_MOST_LINE]
    if found.status_code >= 500 or found.status_code == 429:
        return InfrastructureError(f"{server}: {line}")
    if found.status_code == 404 and line.startswith("no study"):
        return StudyNotFoundError(line)
    if found.status_code == 409:
        kind: type[Exception] = next((kind for words, kind in _CONFLICTS if words in line), StudyStateError)
        return kind(line)
    if found.status_code in (401, 403):
        return UserInputError(f"{server}: {line}")
    return SpecError(line)

"""The API inside this process: an application on a database of its own, asked directly or through a real server."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.testclient import TestClient
from queued_studies import DOCUMENT

from sparsesearch.app.workspace import Workspace
from sparsesearch.service.app import create_app
from sparsesearch.service.options import ServiceOptions
from sparsesearch.service.server import server
from sparsesearch.settings import Settings
from sparsesearch.store.audit import Actor
from sparsesearch.store.sql import SqlStore, open_store
from sparsesearch.study.access import Scope

API = "/api/v1"
SCOPES = {"rita": Scope.READ, "ann": Scope.SUBMIT, "ben": Scope.SUBMIT, "root": Scope.ADMIN}
"""Names of the tokens, and what they allow."""


class Api:
    """An application, its database, and callers with tokens.

    Args:
        folder: Folder for its files.
        database: URL of the database; None for a file in the folder.
        options: Further options of the service.

    Attributes:
        root: A folder whose files studies may read.
        secrets: Secrets of the tokens of `SCOPES`.
    """

    def __init__(self, folder: Path, *, database: str | None = None, **options: Any) -> None:
        home = folder / "home"
        home.mkdir(parents=True)
        self.root = (folder / "data").resolve()
        self.root.mkdir()
        url = database or f"sqlite:///{home / 'studies.db'}"
        self.workspace = Workspace(Settings(home=home, database_url=url), open_store(url))
        given = {"rate": 1e6, "data_roots": (self.root,), **options}
        self.app: FastAPI = create_app(self.workspace, ServiceOptions(**given))
        self.secrets = {name: self.store.tokens.create(name, scope, by=Actor("test")) for name, scope in SCOPES.items()}

    @property
    def store(self) -> SqlStore:
        return self.workspace.store

    def caller(self, name: str | None = None) -> TestClient:
        """A client with somebody's token, or with none; a failure of the server is an answer, as in reality."""
        headers = {} if name is None else bearer(self.secrets[name])
        return TestClient(self.app, headers=headers, raise_server_exceptions=False, follow_redirects=False)

    def submit(self, by: str = "ann", **changes: object) -> str:
        """Submit a study through the API and return its name."""
        answer = self.caller(by).post(f"{API}/studies", json={**DOCUMENT, **changes})
        assert answer.status_code == 201, answer.text
        name: str = answer.json()["study"]
        return name


def bearer(secret: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret}"}


def line(answer: Any) -> str:
    """The line of an answer that is an error, which says how its request can be found in the log."""
    found: Mapping[str, str] = answer.json()
    assert set(found) == {"error", "request_id"}, found
    assert found["request_id"] == answer.headers["x-request-id"]
    assert "\n" not in found["error"]
    return found["error"]


@contextmanager
def serving(app: FastAPI, *, port: int = 0) -> Iterator[str]:
    """A real server on a port of this machine, by default a free one; its address."""
    found = server(app, host="127.0.0.1", port=port)
    thread = threading.Thread(target=found.run, daemon=True)
    thread.start()
    end = time.monotonic() + 30
    while not found.started:
        assert thread.is_alive(), "the server has ended"
        assert time.monotonic() < end, "the server does not start"
        time.sleep(0.01)
    port = found.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        found.should_exit = True
        thread.join(30)
        assert not thread.is_alive(), "the server does not end"

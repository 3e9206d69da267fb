"""Pushing to the hub: what a server of our own is sent, and what is said if there is none."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from sparsesearch.deploy.push_to_hub import check_repository
from sparsesearch.errors import SpecError

PUSH = """
import sys; from pathlib import Path
from sparsesearch.deploy.push_to_hub import push_to_hub
from sparsesearch.errors import SpecError
try:
    print(push_to_hub(Path(sys.argv[1]), "ana/model"))
except SpecError as error:
    print(error)
"""


class Hub(BaseHTTPRequestHandler):
    """The requests of a push, as the hub answers them."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"]))
        server: Any = self.server
        server.tokens.add(self.headers["authorization"])
        if self.path == "/api/repos/create":
            server.created = json.loads(body)
            answer: dict[str, Any] = {"url": f"http://127.0.0.1:{server.server_port}/ana/model"}
        elif self.path == "/api/validate-yaml":
            answer = {"errors": [], "warnings": []}
        elif self.path.endswith("/preupload/main"):
            names = [file["path"] for file in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            answer = {"files": files}
        else:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    server.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            address = f"http://127.0.0.1:{server.server_port}/ana/model"
            answer = {"commitUrl": f"{address}/commit/{'1' * 40}", "commitOid": "1" * 40, "success": True}
        text = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def do_GET(self) -> None:
        self.send_response(404)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.tokens, server.files, server.created = set(), {}, None
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "timm"
    made.mkdir()
    (made / "README.md").write_text("a page")
    (made / "model.safetensors").write_bytes(b"weights")
    return made


def push(folder: Path, address: str) -> str:
    environment = {**os.environ, "HF_ENDPOINT": address, "HF_TOKEN": "hf_secret", "HF_HUB_OFFLINE": "0"}
    environment |= {
        "HF_HOME": str(folder.parent / "hf"),
        "HF_HUB_DISABLE_XET": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-c", PUSH, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    return done.stdout.strip()


def test_the_hub_gets_all_files(hub: Any, folder: Path) -> None:
    address = f"http://127.0.0.1:{hub.server_port}"
    found = push(folder, address)
    assert found.endswith("/ana/model"), found
    assert hub.files["README.md"] == b"a page"
    assert hub.files["model.safetensors"] == b"weights"
    assert hub.created["name"] == "model"
    assert hub.created.get("private") or hub.created.get("visibility") == "private", hub.created
    assert hub.tokens == {"Bearer hf_secret"}


def test_without_a_hub_one_line_says_how_to_go_on(folder: Path) -> None:
    line = push(folder, "http://127.0.0.1:1")
    assert line.startswith(f"{folder} is written, but was not pushed to ana/model (")
    assert line.endswith(f"; log in with: hf auth login, then run: hf upload ana/model {folder}")
    assert "\n" not in line
    assert "hf_secret" not in line


def test_names_that_are_none() -> None:
    check_repository("ana/model")
    with pytest.raises(SpecError, match="--push-to-hub a b: Repo id must"):
        check_repository("a b")

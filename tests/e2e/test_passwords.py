"""The password of a database is nowhere: not in what commands print, write, log to MLflow or show in `ps`."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from answers import PROGRAM
from postgres_server import postgres

pytestmark = pytest.mark.slow

PASSWORD = "p@ss/wörd:%#?&x 7"
FORMS = [
    form.encode()
    for form in (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), json.dumps(PASSWORD)[1:-1], "wörd", "w%C3%B6rd")
]
REQUEST = {
    "name": "tiny",
    "backbone": "deit_pico",
    "budget": {"unit": "fraction", "high": 0.5},
    "precision": "float32",
    "device": "cpu",
    "data": {"num_val_images": 96},
    "fidelity": {
        "evaluations": 2,
        "finalists": 1,
        "dense": {"epochs": 1, "images_per_epoch": 64},
        "supernet_training": {"epochs": 1, "images_per_epoch": 64},
        "finetune": {"epochs": 1, "images_per_epoch": 64},
    },
}


def found_in(blob: bytes) -> list[bytes]:
    return [form for form in FORMS if form in blob]


@dataclass
class CommandLines:
    """Looks at the command lines of all processes while a command runs."""

    seen: set[tuple[int, bytes]] = field(default_factory=set)

    def watch(self, ended: threading.Event) -> None:
        while not ended.wait(0.05):
            for path in Path("/proc").glob("[0-9]*"):
                try:
                    line = (path / "cmdline").read_bytes()
                except OSError:
                    continue
                if found_in(line):
                    self.seen.add((int(path.name), line))


@dataclass
class Place:
    """Where the commands run, and what they said."""

    folder: Path
    url: str
    said: list[str] = field(default_factory=list)

    def run(
        self, *arguments: str, code: int | None = 0, by_flag: bool = False, url: str | None = None, **more: str
    ) -> str:
        """Run a command with the address of the database in the environment, or as a flag."""
        url = self.url if url is None else url
        environment = {**os.environ, "SPARSESEARCH_HOME": str(self.folder / "home"), "OMP_NUM_THREADS": "1", **more}
        if by_flag:
            arguments = (*arguments, "--database", url)
        else:
            environment["SPARSESEARCH_DATABASE_URL"] = url
        process = subprocess.Popen(
            [str(PROGRAM), *arguments],
            cwd=self.folder,
            env={"HF_HUB_OFFLINE": "1", "TMPDIR": str(self.folder / "tmp"), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        lines, ended = CommandLines(), threading.Event()
        watching = threading.Thread(target=lines.watch, args=(ended,))
        watching.start()
        try:
            out, _ = process.communicate(timeout=400)
        finally:
            ended.set()
            watching.join()
            process.kill()
        text = out.decode()
        assert code is None or process.returncode == code, text
        assert found_in(out) == [], text
        own = {line for pid, line in lines.seen if pid == process.pid}
        assert {line for pid, line in lines.seen if pid != process.pid} == set()
        assert own == set() or by_flag, "the line that was typed, until the program has overwritten it"
        self.said.append(text)
        return text


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with postgres(password=PASSWORD) as url:
        yield url


@pytest.fixture(scope="module")
def place(server: str, tmp_path_factory: pytest.TempPathFactory) -> Place:
    """A study that ran on Ray, with its database in PostgreSQL and MLflow in another database of that server."""
    folder = tmp_path_factory.mktemp("place")
    (folder / "tiny.yaml").write_text(yaml.safe_dump(REQUEST), encoding="utf-8")
    (folder / "tmp").mkdir()
    made = Place(folder, server)
    made.run("run", "tiny.yaml", "--progress", "plain", by_flag=True)
    return made


def all_files(*roots: Path) -> Iterator[tuple[Path, bytes]]:
    for root in roots:
        for path in root.rglob("*"):
            if path.is_file():
                yield path, path.read_bytes()


def test_commands_that_succeed(place: Place) -> None:
    for arguments in (
        ("status", "tiny"),
        ("status", "tiny", "--json"),
        ("studies",),
        ("studies", "--json"),
        ("show", "tiny"),
        ("trials", "tiny", "--json"),
        ("report", "tiny", "-o", "report.html"),
        ("export", "tiny", "-o", "exported.yaml"),
        ("mlflow", "sync"),
        ("db", "current"),
    ):
        for by_flag in (False, True):
            if not (by_flag and arguments[0] == "export"):
                place.run(*arguments, by_flag=by_flag)
    place.run("resume", "tiny", "--progress", "jsonl", code=None, by_flag=True)
    second = yaml.safe_dump({**REQUEST, "name": "second", "dispatcher": "inline"})
    (place.folder / "second.yaml").write_text(second, encoding="utf-8")
    place.run("run", "second.yaml", by_flag=True)
    assert any("postgresql://postgres:***@127.0.0.1" in text for text in place.said), "the commands that are suggested"


def test_everything_that_was_written(place: Place) -> None:
    files = list(all_files(place.folder))
    assert any(path.name == "gcs_server.out" for path, _ in files), "the logs of Ray"
    assert [str(path) for path, blob in files if found_in(blob)] == []


def test_commands_that_fail(place: Place) -> None:
    host = place.url.rpartition("@")[2]
    secret, wrong = quote(PASSWORD, safe=""), quote(f"x{PASSWORD}", safe="")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{free.getsockname()[1]}/postgres"
        for url, said in (
            (f"postgresql://postgres:{wrong}@{host}", "password authentication failed"),
            (f"postgresql://postgres:{secret}@{dead}", "refused"),
            (f"postgresql://postgres:{secret}@no.such.host.invalid/x", "no.such.host.invalid"),
            (f"postgresql://postgres:{secret}@{host}x", "does not exist"),
            (f"postgres://me:{secret}@{host}", "unsupported database URL"),
            (f"mysql://me:{secret}@{host}", "unsupported database URL"),
            (f"postgresql://postgres:{secret}@{host}?no_such_option=1", "no_such_option"),
            (f"postgresql://{host}?user=postgres&password={wrong}", "password authentication failed"),
            (f"postgresql://postgres:{secret}@{host.replace('/', 'x/')}", "invalid database URL"),
        ):
            assert said in place.run("studies", by_flag=True, code=2, url=url)
            assert said in place.run("studies", code=2, url=url, SPARSESEARCH_DEBUG="1")
        place.run("run", "tiny.yaml", "--no-mlflow", code=2, url=f"postgresql://postgres:{wrong}@{host}")
    assert [str(path) for path, blob in all_files(place.folder) if found_in(blob)] == []


def test_mlflow(place: Place) -> None:
    """MLflow in that database, and servers that do not exist."""
    place.run("mlflow", "sync", MLFLOW_TRACKING_URI=place.url)
    secret = quote(PASSWORD, safe="")
    for uri in (
        place.url.replace("/postgres", "/none"),
        f"http://me:{secret}@127.0.0.1:9/x",
        f"http://127.0.0.1:9/?token={secret}",
        f"databricks://me:{secret}@x",
        f"file://me:{secret}@x/y",
    ):
        place.run("mlflow", "sync", code=2, MLFLOW_TRACKING_URI=uri)
    assert [str(path) for path, blob in all_files(place.folder) if found_in(blob)] == []


def test_the_title_of_the_process(place: Place) -> None:
    """What was typed with --database is overwritten before the work begins, for Ray tells it to its cluster."""
    process = subprocess.Popen(
        [str(PROGRAM), "status", "tiny", "--watch", "--database", place.url],
        cwd=place.folder,
        env={**os.environ, "SPARSESEARCH_HOME": str(place.folder / "home")},
        stdout=subprocess.PIPE,
    )
    try:
        line = Path(f"/proc/{process.pid}/cmdline")
        until = time.monotonic() + 30
        while found_in(shown := line.read_bytes()) and time.monotonic() < until:
            time.sleep(0.01)
        assert shown == b"" or b"--database" in shown
        assert found_in(shown) == []
    finally:
        process.kill()
        process.communicate()

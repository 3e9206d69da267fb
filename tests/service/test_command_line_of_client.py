"""`sparsesearch --server`: commands say the same of a service as of its database."""

from __future__ import annotations

import json
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from queued_studies import OddEvaluator, begun, bring, finished
from sample_study import DEIT_SMALL, MadeUpEvaluator, prepared, sample_spec
from served import Api, serving

from sparsesearch.cli import main
from sparsesearch.dispatch.inline import InlineDispatcher
from sparsesearch.search.controller import StagedController
from sparsesearch.store.audit import Actor
from sparsesearch.study.protocols import Controller
from sparsesearch.study.state import StopRequest, StudyState


@dataclass
class Answer:
    code: int
    out: str
    err: str


Command = Callable[..., Answer]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Api, str]]:
    """A service with studies of all kinds, and its address."""
    api = Api(tmp_path_factory.mktemp("api"))
    finished(api.store, evaluations=20)
    writer = begun(api.store, sample_spec("odd"))
    controller: Controller = StagedController(writer.spec, DEIT_SMALL)
    InlineDispatcher().run(controller, writer, OddEvaluator())
    writer.set_state(StudyState.PAUSED)
    writer.close()
    bring(api.store, api.submit(name="failed"), StudyState.FAILED)
    api.submit(name="queued")
    with serving(api.app) as address:
        yield api, address


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    """Runs a command in this process, in a folder of its own, on a database or with somebody's token on a service."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "150")

    def command(*arguments: str, api: Api, server: str | None = None, token: str = "ann") -> Answer:
        settings = api.workspace.settings
        monkeypatch.setenv("SPARSESEARCH_SERVER", "")  # restored in the end, since --server sets it
        monkeypatch.setenv("SPARSESEARCH_HOME", str(settings.home if server is None else tmp_path / "elsewhere"))
        monkeypatch.setenv("SPARSESEARCH_DATABASE_URL", settings.database_url if server is None else "")
        monkeypatch.setenv("SPARSESEARCH_TOKEN", api.secrets[token])
        flags = [] if server is None else ["--server", server]
        monkeypatch.setattr(sys, "argv", ["sparsesearch", *flags, *arguments])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Answer(ended.value.code, captured.out, captured.err)

    return command


def _unwrapped(text: str) -> list[str]:
    """The words, without how long something took: a suggested command that carries the address wraps elsewhere."""
    return re.sub(r" *\b[0-9]+:[0-9]{2}\b", " m:ss", text).split()


LOOKS = [
    ("studies",),
    ("studies", "--limit", "2"),
    ("status", "STUDY"),
    ("show", "STUDY"),
    ("trials", "STUDY"),
    ("trials", "STUDY", "--limit", "3", "--offset", "2"),
    ("trials", "STUDY", "--state", "reference", "--state", "complete"),
    ("front", "STUDY"),
    ("front", "STUDY", "--x", "macs"),
]


@pytest.mark.parametrize("arguments", LOOKS, ids=" ".join)
@pytest.mark.parametrize("study", ["sample", "odd", "failed", "queued"])
@pytest.mark.parametrize("form", ["text", "json"])
def test_they_say_the_same(
    service: tuple[Api, str], run: Command, arguments: tuple[str, ...], study: str, form: str
) -> None:
    api, address = service
    asked = [study if one == "STUDY" else one for one in arguments] + ["--json"] * (form == "json")
    here, there = run(*asked, api=api), run(*asked, api=api, server=address, token="rita")
    if form == "json" and arguments[0] == "status":
        assert _timeless(json.loads(here.out)) == _timeless(json.loads(there.out))
        return
    flag = f" --server {address}"  # in commands that are suggested
    without = Answer(there.code, there.out.replace(flag, ""), there.err.replace(flag, ""))
    assert _unwrapped(without.out) == _unwrapped(here.out)
    assert (without.code, without.err) == (here.code, here.err)
    assert (flag in there.out) == ("sparsesearch " in here.out)
    assert here.code == 0
    assert here.out


def _timeless(document: Any) -> Any:
    """Without what goes on while it is asked for."""
    return {key: value for key, value in document.items() if key not in ("elapsed_s", "age_s", "left_s")}


@pytest.mark.parametrize("command", ["status", "show", "trials", "front", "report", "export", "pause", "cancel"])
def test_unknown_studies_are_refused_in_the_same_way(service: tuple[Api, str], run: Command, command: str) -> None:
    api, address = service
    here, there = run(command, "nothing", api=api), run(command, "nothing", api=api, server=address)
    assert here.code == there.code == 2
    assert there.err == "sparsesearch: no study 'nothing'\n"
    assert here.err.startswith(there.err.strip())


def test_files_are_the_same(service: tuple[Api, str], run: Command, tmp_path: Path) -> None:
    api, address = service
    for server, where in ((None, "here"), (address, "there")):
        (tmp_path / where).mkdir()
        for command, flag, file in (
            ("export", "-o", "best.yaml"),
            ("report", "--output", "report.html"),
            ("front", "--png", "front.png"),
        ):
            answer = run(command, "sample", flag, str(tmp_path / where / file), api=api, server=server, token="rita")
            assert answer.code == 0, answer
    for file in ("best.yaml", "report.html", "front.png"):
        here, there = ((tmp_path / where / file).read_bytes() for where in ("here", "there"))
        assert here == there, file


def test_the_course_of_a_study(api: Api, address: str, run: Command) -> None:
    api.submit(name="mine")
    for command, said, state in (
        (("pause", "mine"), "study mine is paused; resume with: ", StudyState.PAUSED),
        (("resume", "mine"), "", StudyState.QUEUED),
        (("stop", "mine"), "study mine is paused", StudyState.PAUSED),
        (("cancel", "mine"), "study mine is cancelled", StudyState.CANCELLED),
    ):
        answer = run(*command, api=api, server=address)
        assert answer.code == 0, answer
        assert said in answer.out
        assert api.store.condition("mine").state is state
    refused = run("pause", "mine", api=api, server=address)
    assert (refused.code, refused.err) == (2, "sparsesearch: study 'mine' is cancelled, so there is nothing to pause\n")
    assert run("delete", "mine", "--yes", api=api, server=address, token="ben").code == 2
    assert run("delete", "mine", "--yes", api=api, server=address).out == "deleted mine (0 trials)\n"
    assert api.store.studies() == []
    entries = [(one.who, one.action) for one in api.store.queue.audit()[::-1] if one.action != "create token"]
    assert entries == [("ann", action) for action in ("submit", "pause", "resume", "pause", "cancel", "delete")]


def test_commands_for_databases_are_refused(api: Api, address: str, run: Command) -> None:
    for command in (("retry", "x"), ("token", "list"), ("token", "create", "x")):
        answer = run(*command, api=api, server=address)
        assert answer.code == 2, (command, answer)
        assert "works on a database, not on the service" in answer.err


def test_a_run(api: Api, address: str, run: Command, tmp_path: Path) -> None:
    def control() -> None:
        while (claim := api.store.queue.claim()) is None:
            time.sleep(0.05)
        writer = api.store.open_claimed(claim.study, claim.lease)
        writer.resolve(prepared(writer.spec, DEIT_SMALL))
        controller: Controller = StagedController(writer.spec, DEIT_SMALL)
        InlineDispatcher().run(controller, writer, MadeUpEvaluator())
        writer.set_state(StudyState.FINISHED)
        writer.close()

    thread = threading.Thread(target=control)
    thread.start()
    options = ["--backbone", "deit_s", "--weights", "scratch", "--budget", "45%:80%", "--evaluations", "8"]
    answer = run(
        "run", *options, "--study", "mine", "--priority", "4", "--output", "out", "--json", api=api, server=address
    )
    thread.join()
    assert answer.code == 0, answer
    assert f"study mine is submitted to {address}" in answer.err
    assert api.store.queue.submission("mine").priority == 4
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"best.yaml", "front.png", "report.html"}
    assert json.loads(answer.out.splitlines()[-1])["points"]


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [(StudyState.FAILED, 1, "study 'mine' failed: because"), (StudyState.CANCELLED, 0, "study mine is cancelled")],
)
def test_a_run_that_ends_otherwise(
    api: Api, address: str, run: Command, state: StudyState, code: int, said: str
) -> None:
    def end() -> None:
        while "mine" not in api.store.studies():
            time.sleep(0.05)
        if state is StudyState.FAILED:
            bring(api.store, "mine", state)
        else:
            api.store.queue.request("mine", StopRequest.CANCEL, by=Actor("ann"))

    thread = threading.Thread(target=end)
    thread.start()
    options = ["--backbone", "deit_pico", "--budget", "45%", "--study", "mine"]
    answer = run("run", *options, api=api, server=address)
    thread.join()
    assert answer.code == code, answer
    assert said in answer.err


def test_a_priority_is_for_services(api: Api, run: Command) -> None:
    answer = run("run", "--backbone", "deit_pico", "--budget", "45%", "--priority", "3", api=api)
    assert (answer.code, answer.err) == (2, "sparsesearch: --priority is for studies of a service; give --server URL\n")

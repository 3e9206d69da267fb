"""What submitted studies may make the service and its controllers read."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from queued_studies import DOCUMENT
from served import API, Api, bearer, line

from sparsesearch.app.workspace import Workspace
from sparsesearch.service.app import create_app
from sparsesearch.service.options import ServiceOptions

SECRET = "/etc/passwd"
OPENED: list[str] = []
WATCHED: list[str] = []


def _noted(event: str, arguments: tuple[Any, ...]) -> None:
    if WATCHED and event in ("open", "os.listdir", "os.scandir", "os.chdir", "subprocess.Popen"):
        OPENED.append(f"{event} {arguments[0]}")


sys.addaudithook(_noted)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Api:
    api = Api(tmp_path_factory.mktemp("api"))
    outside = api.root.parent / "outside"
    outside.mkdir()
    (outside / "weights.pt").write_bytes(b"weights")
    (api.root / "sets" / "flowers").mkdir(parents=True)
    (api.root / "weights.pt").write_bytes(b"weights")
    (api.root / "inner").symlink_to(api.root / "sets")
    (api.root / "out").symlink_to(outside)
    (api.root / "up").symlink_to("../..")
    (api.root / "file.pt").symlink_to(outside / "weights.pt")
    (api.root / "circle").symlink_to("circle")
    (api.root.parent / "data-of-others").mkdir()
    api.submit("ben", name="of-ben")
    return api


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """What is opened, listed or started from here on, without the database and the program itself."""
    OPENED.clear()
    WATCHED.append("on")
    yield OPENED
    WATCHED.clear()


def refused(api: Api, document: dict[str, Any]) -> str:
    """The line with which a document is refused."""
    before = api.store.count_studies()
    answer = api.caller("ann").post(f"{API}/studies", json=document)
    assert answer.status_code == 422, (document, answer.text[:300])
    assert api.store.count_studies() == before
    said = line(answer)
    assert len(said) < 2000
    return said


OUTSIDE = [
    SECRET,
    "/",
    "/etc",
    "/proc/self/environ",
    "/dev/zero",
    "ROOT/../outside/weights.pt",
    "ROOT/sets/../../outside",
    "ROOT/out",
    "ROOT/out/weights.pt",
    "ROOT/file.pt",
    "ROOT/up/home/studies.db",
    "ROOT/inner/../../outside",
    "ROOT-of-others",
    "ROOT/./../outside",
    "//etc/passwd",
    "ROOT/circle",
    "ROOT/circle/x",
]
RELATIVE = ["weights.pt", "./x", "../x", "x/../../etc", "http://evil.example/w.pt", "hf-hub:evil/model", "file:///etc"]
HOME = ["~", "~/x", "~root/.ssh", "~nobody-of-this-name/x"]


class TestPaths:
    @pytest.mark.parametrize("path", OUTSIDE)
    def test_outside(self, api: Api, path: str, opened: list[str]) -> None:
        path = path.replace("ROOT", str(api.root))
        for source in (f"folder:{path}", f"torch/cifar10:{path}", f"hfds:{path}", f"wds:{path}", f"wds/{path}", path):
            said = refused(api, {**DOCUMENT, "data": source})
            assert said.startswith("data.source: ")
            assert refused(api, {**DOCUMENT, "data": {"source": source}}) == said
            assert refused(api, {**DOCUMENT, "data": f"  {source} "})
        assert refused(api, {**DOCUMENT, "weights": path}).startswith("weights: ")
        read = [one for one in opened if str(api.root.parent / "outside") in one or " /etc" in one or " /proc" in one]
        assert read == []

    @pytest.mark.parametrize("path", RELATIVE)
    def test_relative(self, api: Api, path: str) -> None:
        for source in (f"folder:{path}", f"torch/cifar10:{path}", f"hfds:{path}", f"wds:{path}"):
            assert "is not an absolute path" in refused(api, {**DOCUMENT, "data": source})
        for source in (f"wds/{path}", path):
            refused(api, {**DOCUMENT, "data": source})
        assert "is not in a folder that studies may read" in refused(api, {**DOCUMENT, "weights": path})

    @pytest.mark.parametrize("path", HOME)
    def test_home_directories(self, api: Api, path: str) -> None:
        for source in (f"folder:{path}", f"hfds:{path}", f"wds/{path}", f"hfds/{path}", path):
            refused(api, {**DOCUMENT, "data": source})
        refused(api, {**DOCUMENT, "weights": path})

    @pytest.mark.parametrize(
        "name", ["/etc", "../etc", "a/../../etc", "./a", ".a/b", "a/.b", "a//b", "a/b/c", "a b", ""]
    )
    def test_names_on_the_hub_are_no_paths(self, api: Api, name: str) -> None:
        refused(api, {**DOCUMENT, "data": f"hfds/{name}"})

    def test_the_message_names_the_folders_that_are_allowed(self, api: Api) -> None:
        said = refused(api, {**DOCUMENT, "weights": SECRET})
        assert f"'/etc/passwd' is not in a folder that studies may read ({api.root}); the operator sets" in said

    @pytest.mark.parametrize(
        "changes",
        [
            {"data": "digits"},
            {"data": "digits:hard"},
            {"data": {"source": "digits:four", "val_fraction": 0.2}},
            {"data": {"num_val_images": 100}},
            {"data": None},
            {"data": "folder:ROOT"},
            {"data": "folder:ROOT/"},
            {"data": "folder:ROOT/sets/flowers"},
            {"data": "folder:ROOT/inner/flowers"},
            {"data": "folder:ROOT/sets/../sets/flowers"},
            {"data": "folder:ROOT/not/yet/there"},
            {"data": "torch/cifar10:ROOT/cifar"},
            {"data": "hfds:ROOT/sets"},
            {"data": "hfds/timm/mini-imagenet"},
            {"data": "hfds/cifar10"},
            {"data": "wds:ROOT/sets"},
            {"data": "folder:ROOT/Blüten und 花"},
            {"weights": "scratch"},
            {"weights": "pretrained"},
            {"weights": "ROOT/weights.pt"},
            {"weights": "ROOT/inner/../weights.pt"},
            {"space": "isotropic"},
            {"space": {"blocks": [2, 4], "max_predictors": 2}},
            {"latency": {"profile": "h200"}, "budget": {"unit": "ms", "high": 2}},
            {"warm_start": "of-ben"},
            {"resources": {"max_concurrent": 2, "gpus_per_trial": 0.5}},
        ],
    )
    def test_what_is_allowed(self, api: Api, changes: dict[str, Any]) -> None:
        text = {key: value.replace("ROOT", str(api.root)) for key, value in changes.items() if isinstance(value, str)}
        name = api.submit(**{**changes, **text})
        spec = api.store.spec(name)
        assert (spec.storage, spec.resources.ray_address, spec.dispatcher, spec.device) == (None, None, "ray", "auto")

    def test_without_folders_only_the_bundled_data(self, api: Api, tmp_path: Path) -> None:
        closed = Api(tmp_path, data_roots=())
        said = refused(closed, {**DOCUMENT, "data": f"folder:{tmp_path}"})
        assert "is not in a folder that studies may read (none)" in said
        assert closed.submit(data="digits:hard")

    def test_the_data_of_the_operator_is_allowed(self, api: Api) -> None:
        settings = api.workspace.settings.model_copy(update={"data": "folder:/srv/operator"})
        caller = TestClient(create_app(Workspace(settings, api.store), ServiceOptions()))
        document = {"backbone": "deit_s", "budget": "60%"}
        name = caller.post(f"{API}/studies", json=document, headers=bearer(api.secrets["ann"])).json()["study"]
        assert api.store.spec(name).data.source == "folder:/srv/operator"


class TestOtherKeys:
    @pytest.mark.parametrize(
        "changes",
        [
            {"storage": "/tmp/x"},
            {"storage": ""},
            {"storage": "s3://bucket"},
            {"device": "cpu"},
            {"dispatcher": "inline"},
            {"resolved": {"geometry": {}}},
            {"resources": {"ray_address": "evil.example:6379"}},
            {"resources": {"ray_address": ""}},
            {"resources": {"patience_s": 1e9}},
            {"resources": {"worker_timeout_s": 1e9}},
            {"latency": {"profile": SECRET}},
            {"latency": {"profile": "x.json"}},
            {"latency": {"profile": "../x"}},
            {"latency": {"profile": "./x.json"}},
            {"space": SECRET},
            {"space": "ROOT/space.yaml"},
            {"space": "../spaces/isotropic"},
            {"space": "isotropic.yaml"},
            {"space": ""},
            {"backbone": "local-dir:/etc"},
            {"backbone": "hf-hub:evil/model"},
            {"backbone": "/etc/passwd"},
            {"fidelity": {"retrain": {"preset": SECRET}}},
            {"fidelity": {"finetune": {"augmentation": {"rand_augment": "rand-/etc/passwd"}}}},
            {"warm_start": SECRET},
            {"warm_start": "nobody"},
            {"extends": SECRET},
            {"include": SECRET},
            {"!include": SECRET},
            {"data": {"source": "digits", "manifest": SECRET}},
            {"data": {"source": "digits", "path": SECRET}},
            {"space": {"extends": SECRET}},
        ],
    )
    def test_they_lead_nowhere(self, api: Api, changes: dict[str, Any], opened: list[str]) -> None:
        refused(api, {**DOCUMENT, **changes})
        assert not [one for one in opened if "/etc" in one or "evil" in one]


KEYS = [
    ("weights",), ("data",), ("data", "source"), ("space",), ("latency", "profile"), ("storage",), ("warm_start",),
    ("resources", "ray_address"), ("resources",), ("latency",), ("backbone",), ("name",), ("budget",),
    ("budget", "high"), ("budget", "unit"), ("fidelity",), ("fidelity", "retrain", "preset"), ("device",),
    ("sampler",), ("seed",), ("time_budget_s",), ("data", "image_size"), ("space", "blocks"),
]  # fmt: skip
VALUES = [
    [SECRET],
    {"path": SECRET},
    [[SECRET]],
    "folder:ROOT/a\0b",
    "ROOT/a\0b",
    "a\0",
    "\ud800",
    "ROOT/\udfff",
    "x" * 5000,
    "folder:ROOT/" + "x" * 300,
    "ROOT/" + "y/" * 3000,
    -1,
    10**30,
    10**400,
    1e999,
    float("nan"),
]


def sent(api: Api, text: str) -> Any:
    """The answer to a document as text, which may be what no client would make."""
    return api.caller("ann").post(f"{API}/studies", content=text, headers={"Content-Type": "application/json"})


class TestOddValues:
    @pytest.mark.parametrize("key", KEYS, ids=".".join)
    def test_they_are_refused_in_one_line(self, api: Api, key: tuple[str, ...]) -> None:
        for value in VALUES:
            odd: Any = value.replace("ROOT", str(api.root)) if isinstance(value, str) else value
            for part in key[:0:-1]:
                odd = {part: odd}
            body = json.dumps({**DOCUMENT, key[0]: odd})
            answer = api.caller("ann").post(
                f"{API}/studies", content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code == 422, (key, value, answer.text)
            line(answer)

    @pytest.mark.parametrize("where", [(), ("data",), ("fidelity",), ("space",), ("x",)])
    def test_odd_keys_are_refused(self, api: Api, where: tuple[str, ...]) -> None:
        for odd in ("", "é", "x" * 5000, "a\0", "\ud800", "__class__", "model_config"):
            inner: Any = {odd: 1}
            for part in where[::-1]:
                inner = {part: inner}
            headers = {"Content-Type": "application/json"}
            answer = api.caller("ann").post(
                f"{API}/studies", content=json.dumps({**DOCUMENT, **inner}), headers=headers
            )
            assert answer.status_code == 422, (where, odd, answer.text)
            line(answer)

    @pytest.mark.parametrize(
        "text",
        [
            '{"data":' * 60 + "1" + "}" * 60,
            "[" * 900 + "]" * 900,
            '{"x":[' + "1," * 120_000 + "1]}",
            '{"space":{"blocks":[' + "1," * 90_000 + "1]}}",
            "{" + ",".join(f'"k{number}":1' for number in range(60_000)) + "}",
            '{"budget":{' + ",".join(f'"k{number}":1' for number in range(60_000)) + "}}",
            '{"backbone":"' + "x" * 1_000_000 + '"}',
            '{"' + "http://a:" * 100_000 + '":1}',
        ],
        ids=["deep mappings", "deep lists", "long", "long blocks", "keys", "inner keys", "long text", "long key"],
    )
    def test_large_documents_are_refused_soon(self, api: Api, text: str) -> None:
        answer = sent(api, json.dumps(DOCUMENT)[:-1] + "," + text[1:] if text.startswith("{") else text)
        assert answer.status_code == 422, answer.text[:300]
        assert answer.elapsed.total_seconds() < 5
        assert len(line(answer)) < 2000

"""What is deployed: the compose file, the image, and the Kubernetes manifests, as far as no container is needed."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import kubernetes_validate
import pytest
import typer
import yaml
from check_jsonschema.builtin_schemas import get_builtin_schema
from jsonschema.validators import validator_for
from postgres_server import PostgresServer, postgres_programs

from sparsesearch.cli.app import app

ROOT = Path(__file__).resolve().parents[2]
WORKERS = ROOT / "workers"
COMPOSE = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
SERVICES: dict[str, dict[str, Any]] = yaml.safe_load(COMPOSE)["services"]
DOCKERFILE = (WORKERS / "Dockerfile").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
MANIFESTS = [
    document
    for path in sorted((WORKERS / "kubernetes").glob("*.yaml"))
    if path.name != "kustomization.yaml"
    for document in yaml.safe_load_all(path.read_text(encoding="utf-8"))
]
RAY_CLUSTER = next(document for document in MANIFESTS if document["kind"] == "RayCluster")
KUBERNETES = ("1.31", "1.37")
"""Versions whose schemas the manifests must satisfy."""

VARIABLE = re.compile(r"\$\{(\w+)(?::([?-])([^}]*))?\}")
SECRET = re.compile(r"PASSWORD|TOKEN|SECRET")
PINNED = re.compile(r"[\w./-]+:\d+\.\d+[\w.-]*")


def interpolated(text: str, values: Mapping[str, str]) -> str:
    """What Docker Compose makes of the variables in a text."""

    def value(match: re.Match[str]) -> str:
        name, kind, rest = match.groups()
        if values.get(name):
            return values[name]
        assert kind == "-", f"{name} has no value"
        return str(rest)

    return VARIABLE.sub(value, text)


def strings(document: object) -> Iterator[str]:
    """All strings in a document."""
    if isinstance(document, str):
        yield document
    elif isinstance(document, Mapping):
        for item in document.values():
            yield from strings(item)
    elif isinstance(document, list):
        for item in document:
            yield from strings(item)


def example() -> tuple[dict[str, str], dict[str, str]]:
    """The variables of .env.example: those to fill in, and those that have defaults."""
    lines = (ROOT / ".env.example").read_text(encoding="utf-8").splitlines()
    found = [match.groups() for line in lines if (match := re.fullmatch(r"(#?)([A-Z][A-Z0-9_]*)=(.*)", line))]
    return (
        {name: value for mark, name, value in found if not mark},
        {name: value for mark, name, value in found if mark},
    )


def check_command(words: list[str]) -> None:
    """Check that `sparsesearch WORDS` exists with these options."""
    group = typer.main.get_command(app)
    context = group.make_context("sparsesearch", words, resilient_parsing=True)
    name, command, rest = group.resolve_command(context, words)
    context = command.make_context(name, list(rest), resilient_parsing=True)
    command.make_parser(context).parse_args(args=list(rest))


def program_of(service: Mapping[str, Any]) -> list[str]:
    """The whole command line of a service, with the defaults of its variables."""
    return [interpolated(word, {}) for word in [*service.get("entrypoint", []), *service.get("command", [])]]


def containers() -> list[tuple[str, dict[str, Any], dict[str, Any]]]:
    """Name, pod and container of all that the manifests run."""
    templates = [(document["metadata"]["name"], document["spec"]["template"]) for document in MANIFESTS
                 if document["kind"] == "Deployment"]  # fmt: skip
    templates += ray_templates()
    pods = [(name, template["spec"]) for name, template in templates]
    return [(name, pod, container) for name, pod in pods for container in pod["containers"]]


def ray_templates() -> list[tuple[str, dict[str, Any]]]:
    spec = RAY_CLUSTER["spec"]
    workers = [(f"ray-{group['groupName']}", group["template"]) for group in spec["workerGroupSpecs"]]
    return [("ray-head", spec["headGroupSpec"]["template"]), *workers]


def locked(package: str) -> str:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return next(line.partition("==")[2] for line in lines if line.startswith(f"{package}=="))


def test_the_compose_file_satisfies_the_schema() -> None:
    schema = get_builtin_schema("vendor.compose-spec")
    errors = validator_for(schema)(schema).iter_errors(yaml.safe_load(COMPOSE))
    assert [f"{'/'.join(map(str, error.path))}: {error.message}" for error in errors] == []


def test_the_compose_file_has_the_services_of_a_team() -> None:
    assert {*SERVICES} >= {"postgres", "mlflow", "api", "controller", "ray-head", "ray-worker", "ray-worker-gpu"}
    assert {name for name, service in SERVICES.items() if service.get("profiles")} == {"ray-worker-gpu", "search"}
    gpus = SERVICES["ray-worker-gpu"]
    assert gpus["build"]["args"] == {"VARIANT": "cuda"}
    assert gpus["deploy"]["resources"]["reservations"]["devices"][0]["capabilities"] == ["gpu"]


@pytest.mark.parametrize("name", SERVICES)
def test_every_service_has_a_health_check_or_a_reason(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    if check.get("disable"):
        block = COMPOSE.partition(f"\n  {name}:\n")[2]
        assert re.match(r"(?:\n|    .*\n)*?    healthcheck:\n      disable: true # \w.*\n", block)
    else:
        assert check["test"][0] == "CMD"
        assert {"interval", "timeout", "retries"} <= {*check}


def test_every_image_is_pinned() -> None:
    images = [service["image"] for service in SERVICES.values() if "image" in service]
    stages = re.findall(r"^FROM (\S+)(?: AS (\w+))?$", DOCKERFILE, flags=re.MULTILINE)
    assert DOCKERFILE.count("FROM ") == len(stages) >= 3
    known = {name for _, name in stages}
    images += [image for image, _ in stages if image not in known]
    assert len(images) >= 2
    assert [image for image in images if PINNED.fullmatch(image) is None] == []
    assert re.findall(r"pip install (?!\$torch|--no-deps)(\S.*?) &&", DOCKERFILE) == ["--no-cache-dir uv==0.13.9"]


def test_there_is_no_password_in_the_compose_file() -> None:
    found = {}
    for name, service in SERVICES.items():
        for variable, value in service["environment"].items():
            if SECRET.search(variable):
                found[name, variable] = value
        for text in strings(service):
            assert urlsplit(VARIABLE.sub("x", text)).password is None, text
    assert len(found) > 10
    assert {kind for value in found.values() for _, kind, _ in VARIABLE.findall(value)} == {"?"}
    assert [value for value in found.values() if VARIABLE.fullmatch(value) is None] == []


def test_the_variables_are_those_of_the_example() -> None:
    required, optional = example()
    used = VARIABLE.findall(COMPOSE)
    assert {name for name, kind, _ in used if kind == "?"} == {*required}
    assert {(name, rest) for name, kind, rest in used if kind == "-"} == {*optional.items()}
    assert len(used) == len([1 for _, kind, _ in used if kind])
    assert {name for name, value in required.items() if value} == {"DATA_FOLDER", "RESULTS_FOLDER"}
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "/.env" in ignored


def test_variables_of_the_environment_are_read_by_somebody() -> None:
    sources = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "sparsesearch").rglob("*.py"))
    names = {name for service in SERVICES.values() for name in service["environment"]}
    names |= set(re.findall(r"\b(SPARSESEARCH_\w+)[:=]", DOCKERFILE))
    ours = {name for name in names if name.startswith("SPARSESEARCH_") and name != "SPARSESEARCH_DB_PASSWORD"}
    assert ours >= {"SPARSESEARCH_DATABASE_URL", "SPARSESEARCH_DATA_ROOTS", "SPARSESEARCH_RAY_ADDRESS"}
    assert [name for name in ours if name not in sources] == []


def test_commands_of_the_services_exist() -> None:
    found = {name: program_of(service) for name, service in SERVICES.items() if name != "postgres"}
    ours = {name: words for name, words in found.items() if "sparsesearch" in words}
    assert {*ours} == {"api", "controller", "search"}
    assert found["controller"][:2] == ["on-ray-node", "ray-head:6379"]
    for name, words in ours.items():
        if arguments := words[words.index("sparsesearch") + 1 :]:
            assert name != "search"
            check_command(arguments)
    for words in (found["ray-head"], found["ray-worker"], found["ray-worker-gpu"]):
        assert words[:2] == ["ray", "start"]
        check_options("ray", words[2:])
    assert found["mlflow"][:3] == ["mlflow", "server", "--app-name=basic-auth"]
    check_options("mlflow", found["mlflow"][2:])


def check_options(program: str, words: list[str]) -> None:
    """Check that `ray start` or `mlflow server` have these options."""
    if program == "ray":
        from ray.scripts.scripts import start as command
    else:
        from mlflow.cli import server as command
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words} <= known


def test_the_shell_commands_of_the_script_exist() -> None:
    text = (WORKERS / "on-ray-node.sh").read_text(encoding="utf-8").replace("\\\n", " ")
    start = next(line for line in text.splitlines() if line.startswith("ray start"))
    check_options("ray", [word for word in start.split()[2:] if word.startswith("--")])


@pytest.mark.parametrize("name", sorted({*SERVICES} - {"postgres"}))
def test_services_are_not_root(name: str) -> None:
    service = SERVICES[name]
    user, _, group = interpolated(service["user"], {}).partition(":")
    assert (user, group) == ("1000", "0")
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", ["api", "controller", "ray-head", "ray-worker", "ray-worker-gpu", "search"])
def test_folders_are_the_same_in_all_services(name: str) -> None:
    """Checkpoints, data and results are at the same paths; Docker creates no folder as root."""
    home, data, results = SERVICES[name]["volumes"]
    assert home == "home:/home/sparsesearch/data"
    assert (data["target"], data["read_only"], data["bind"]) == ("/data", True, {"create_host_path": False})
    assert (results["target"], results["bind"]) == ("/results", {"create_host_path": False})
    assert "read_only" not in results
    for folder in ("/home/sparsesearch/data", "/home/sparsesearch/mlflow-artifacts", "/results"):
        assert folder in DOCKERFILE.partition("install --directory --owner 1000 --group 0 --mode 2775")[2]


def test_only_those_who_need_them_have_the_passwords() -> None:
    def those_with(variable: str) -> set[str]:
        return {name for name, service in SERVICES.items() if variable in service["environment"]}

    assert those_with("SPARSESEARCH_DATABASE_URL") == {"api", "controller", "search"}
    with_token = those_with("RAY_AUTH_TOKEN")
    assert with_token == {"controller", "ray-head", "ray-worker", "ray-worker-gpu"}
    assert {SERVICES[name]["environment"]["RAY_AUTH_MODE"] for name in with_token} == {"token"}
    ports = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}
    assert {name: [interpolated(port, {}) for port in found] for name, found in ports.items()} == {
        "api": ["127.0.0.1:8000:8000"],
        "mlflow": ["127.0.0.1:5000:5000"],
    }


def test_the_image_has_no_development_tools_and_is_not_root() -> None:
    """The lock is only a constraint: it has the tools for tests and checks as well."""
    assert "--constraints requirements.lock" in DOCKERFILE
    assert "-r requirements.lock" not in DOCKERFILE
    assert "--requirements requirements.lock" not in DOCKERFILE
    assert "--group" not in re.sub(r"install --directory.*", "", DOCKERFILE)
    assert "apt-get" not in DOCKERFILE
    final = DOCKERFILE.rpartition("\nFROM ")[2]
    assert re.findall(r"^USER (.+)$", final, flags=re.MULTILINE) == ["1000:0"]
    assert "pip install" not in final
    sources = [line.split()[1] for line in final.splitlines() if line.startswith("COPY")]
    assert sources == ["--from=build", "workers/on-ray-node.sh"]
    assert os.access(WORKERS / "on-ray-node.sh", os.X_OK)
    allowed = (WORKERS / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY ((?!--from)\S.*) \S+$", DOCKERFILE, flags=re.MULTILINE)
    for source in (name.partition("/")[0] for line in copied for name in line.split()):
        assert f"!{source}" in allowed
    assert "!.env" not in allowed


FAKE_RAY = """#!{python}
import os, socket, time
listener = socket.create_server(("127.0.0.1", int(os.environ["RAY_NODE_PORT"])))
time.sleep(float(os.environ["FAKE_RAY_SECONDS"]))
"""
COMMAND = """
import signal, sys, time
asked = []
signal.signal(signal.SIGTERM, lambda *_: asked.append(1))
until = time.monotonic() + float(sys.argv[1])
while time.monotonic() < until and not asked: time.sleep(0.05)
if asked: time.sleep(1.0)
print("asked", len(asked), flush=True)
sys.exit(7)
"""


@pytest.mark.parametrize(
    ("ray_seconds", "command_seconds", "terminated", "asked"),
    [(60, 0.5, False, 0), (60, 60, True, 1), (3, 60, False, 1)],
    ids=["the command ends", "SIGTERM twice", "Ray ends"],
)
def test_on_ray_node(ray_seconds: float, command_seconds: float, terminated: bool, asked: int, tmp_path: Path) -> None:
    """The command is asked to end once, and its exit code is that of the container; Ray does not outlive it."""
    ray = tmp_path / "ray"
    ray.write_text(FAKE_RAY.format(python=sys.executable), encoding="utf-8")
    ray.chmod(0o755)
    port = free_port()
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "RAY_NODE_PORT": str(port),
        "FAKE_RAY_SECONDS": str(ray_seconds),
    }
    script = ["bash", str(WORKERS / "on-ray-node.sh"), "head:6379"]
    with subprocess.Popen(
        [*script, sys.executable, "-c", COMMAND, str(command_seconds)],
        env=environment, stdout=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        if terminated:
            wait_for(lambda: children(process.pid) >= 2)
            time.sleep(1.0)  # until Python has set its handler
            process.send_signal(signal.SIGTERM)
            time.sleep(0.3)
            process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=60)
    assert (process.returncode, output) == (7, f"asked {asked}\n")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5)


def test_on_ray_node_without_a_head(tmp_path: Path) -> None:
    ray = tmp_path / "ray"
    ray.write_text("#!/bin/sh\necho 'no head' >&2\nexit 1\n", encoding="utf-8")
    ray.chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "RAY_NODE_PORT": str(free_port())}
    script = ["bash", str(WORKERS / "on-ray-node.sh"), "head:6379", "echo", "never"]
    done = subprocess.run(script, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "no head\n")


def test_the_kustomization_names_all_manifests() -> None:
    text = (WORKERS / "kubernetes" / "kustomization.yaml").read_text(encoding="utf-8")
    kustomization = yaml.safe_load(text)
    names = {path.name for path in (WORKERS / "kubernetes").glob("*.yaml")} - {"kustomization.yaml"}
    assert {*kustomization["resources"]} == names
    images = {image["name"] for image in kustomization["images"]}
    assert {container["image"].partition(":")[0] for _, _, container in containers()} == images
    assert [image for image in kustomization["images"] if not re.match(r"\d+\.\d+", image["newTag"])] == []


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("document", MANIFESTS, ids=lambda one: f"{one['kind']} {one['metadata']['name']}")
def test_manifests_satisfy_the_schemas(document: dict[str, Any], version: str) -> None:
    if document["kind"] != "RayCluster":
        kubernetes_validate.validate(document, version, strict=True)
        return
    for name, template in ray_templates():
        pod = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": template}
        kubernetes_validate.validate(pod, version, strict=True)


def test_a_manifest_with_an_unknown_key_is_refused() -> None:
    broken = json.loads(json.dumps(next(document for document in MANIFESTS if document["kind"] == "Deployment")))
    broken["spec"]["template"]["spec"]["container"] = []
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, KUBERNETES[-1], strict=True)


def test_the_ray_cluster_is_one_that_kuberay_accepts() -> None:
    """Its schema is not in a package; these are the keys that are used, and what KubeRay checks itself."""
    spec = RAY_CLUSTER["spec"]
    assert RAY_CLUSTER["apiVersion"] == "ray.io/v1"
    assert {*spec} <= {"rayVersion", "enableInTreeAutoscaling", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert spec["authOptions"] == {"mode": "token", "secretName": "sparsesearch-ray"}
    assert spec["rayVersion"] == locked("ray")
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    worker_keys = {"groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template"}
    assert {*groups[0]} == {"rayStartParams", "template"}
    for group in groups[1:]:
        assert {*group} == worker_keys
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups:
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
        check_options("ray", [f"--{name}" for name in group["rayStartParams"]])
    assert groups[0]["rayStartParams"]["num-cpus"] == "0"


@pytest.mark.parametrize(("name", "pod", "container"), containers(), ids=[name for name, _, _ in containers()])
def test_pods_are_restricted_and_probed(name: str, pod: dict[str, Any], container: dict[str, Any]) -> None:
    assert {"livenessProbe", "readinessProbe"} <= {*container}
    ports = {port["name"] for port in container.get("ports", [])}
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        probe = container.get(kind, {})
        where = probe.get("httpGet") or probe.get("tcpSocket") or {"port": 0}
        assert isinstance(where["port"], int) or where["port"] in ports
    security = pod["securityContext"]
    assert security["runAsNonRoot"] is True
    assert security["runAsUser"] == 1000
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    assert pod["automountServiceAccountToken"] is False
    assert "memory" in container["resources"]["limits"]
    assert PINNED.fullmatch(container["image"]), name


def test_secrets_of_the_manifests_are_references() -> None:
    secrets: set[tuple[str, str]] = set()
    for _, _, container in containers():
        for variable in container.get("env", []):
            if SECRET.search(variable["name"]) or variable["name"].endswith(("_URL", "_URI", "_USERNAME")):
                assert {*variable["valueFrom"]} == {"secretKeyRef"}
                reference = variable["valueFrom"]["secretKeyRef"]
                secrets.add((reference["name"], reference["key"]))
    readme = (WORKERS / "README.md").read_text(encoding="utf-8")
    assert {name for name, _ in secrets} == {"sparsesearch", "sparsesearch-ray"}
    for name, key in secrets:
        assert f"create secret generic {name} " in readme
        assert re.search(rf"--from-(?:literal|file)={key}\b", readme), key
    assert not [document for document in MANIFESTS if document["kind"] == "Secret"]
    settings = next(document for document in MANIFESTS if document["kind"] == "ConfigMap")["data"]
    assert [name for name in settings if SECRET.search(name)] == []


def test_manifests_refer_to_what_exists() -> None:
    claims = {document["metadata"]["name"] for document in MANIFESTS if document["kind"] == "PersistentVolumeClaim"}
    for _, pod, container in containers():
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        assert {mount["name"] for mount in container["volumeMounts"]} == {*volumes}
        for volume in volumes.values():
            claim = volume.get("persistentVolumeClaim")
            assert claim is None or claim["claimName"] in claims
        assert container["envFrom"] == [{"configMapRef": {"name": "sparsesearch"}}]
    deployments = {
        document["metadata"]["name"]: document["spec"] for document in MANIFESTS if document["kind"] == "Deployment"
    }
    for spec in deployments.values():
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
    service = next(document for document in MANIFESTS if document["kind"] == "Service")["spec"]
    assert service["selector"] == deployments["sparsesearch-api"]["selector"]["matchLabels"]
    names = ("sparsesearch-api", "sparsesearch-controller")
    api, controller = (deployments[name]["template"]["spec"]["containers"][0] for name in names)
    check_command(api["args"])
    check_command(controller["args"])
    assert controller["command"] == ["on-ray-node", f"{RAY_CLUSTER['metadata']['name']}-head-svc:6379", "sparsesearch"]


PASSWORDS = {
    "POSTGRES_PASSWORD": "p ost'gr\"es",
    "SPARSESEARCH_DB_PASSWORD": "spar/s@e'$x",
    "MLFLOW_DB_PASSWORD": "ml:f@lo%w",
    "MLFLOW_ADMIN_PASSWORD": "an admin's: pass",
    "MLFLOW_SECRET_KEY": "signs forms",
    "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef",
    "DATA_FOLDER": "./data",
    "RESULTS_FOLDER": "./results",
}


class Databases:
    """A PostgreSQL server as the compose file has it, but for the container."""

    def __init__(self, programs: Path, url: str) -> None:
        self._programs = programs
        self.port = str(urlsplit(url).port)

    def run(self, *command: str, user: str = "postgres", password: str | None = None, stdin: bytes | None = None,
            **environment: str) -> subprocess.CompletedProcess[bytes]:  # fmt: skip
        """Run one of PostgreSQL's programs."""
        settings = {
            **os.environ,
            "PGHOST": "127.0.0.1",
            "PGPORT": self.port,
            "PGUSER": user,
            "PGPASSWORD": PASSWORDS["POSTGRES_PASSWORD"] if password is None else password,
            **environment,
        }
        folder = (self._programs / "initdb").resolve().parent
        program = [str(folder / command[0]), *command[1:]]
        return subprocess.run(program, env=settings, input=stdin, capture_output=True, check=False, timeout=60)

    def create(self, **passwords: str) -> subprocess.CompletedProcess[bytes]:
        """Run the script as the entrypoint of the image does."""
        options = ["-v", "ON_ERROR_STOP=1", "--no-password", "--no-psqlrc", "--dbname", "postgres"]
        (script,) = (WORKERS / "postgres-init").iterdir()
        return self.run("psql", *options, "-f", str(script), **passwords)

    def query(self, database: str, sql: str, *, user: str = "postgres", password: str | None = None) -> str:
        """Run a statement, and return what it prints; errors as well."""
        done = self.run("psql", "-At", "-d", database, "-c", sql, user=user, password=password)
        return (done.stdout + done.stderr).decode().strip()


@pytest.fixture
def server() -> Iterator[Databases]:
    programs = postgres_programs()
    if programs is None:
        pytest.fail("these tests need a PostgreSQL server's programs; run: apt-get install postgresql", pytrace=False)
    with PostgresServer(programs, password=PASSWORDS["POSTGRES_PASSWORD"]).running() as url:
        yield Databases(programs, url)


@pytest.fixture
def databases(server: Databases) -> Databases:
    names = ("SPARSESEARCH_DB_PASSWORD", "MLFLOW_DB_PASSWORD")
    assert {*names} <= {*SERVICES["postgres"]["environment"]}
    done = server.create(**{name: PASSWORDS[name] for name in names})
    assert done.returncode == 0, done.stderr
    return server


def test_postgres_is_not_set_up_without_passwords(server: Databases) -> None:
    done = server.create(SPARSESEARCH_DB_PASSWORD=PASSWORDS["SPARSESEARCH_DB_PASSWORD"])
    assert done.returncode != 0
    assert server.query("postgres", "select count(*) from pg_roles where rolname = 'mlflow'") == "0"


def test_every_user_has_its_own_databases_alone(databases: Databases) -> None:
    ours = {"user": "sparsesearch", "password": PASSWORDS["SPARSESEARCH_DB_PASSWORD"]}
    theirs = {"user": "mlflow", "password": PASSWORDS["MLFLOW_DB_PASSWORD"]}
    for who, database in ((ours, "sparsesearch"), (theirs, "mlflow"), (theirs, "mlflow_auth")):
        assert databases.query(database, "create table t (x int)", **who) == "CREATE TABLE"
    for who, database in ((ours, "mlflow"), (ours, "mlflow_auth"), (theirs, "sparsesearch")):
        assert "permission denied for database" in databases.query(database, "select 1", **who)
    assert databases.query("postgres", "select rolname from pg_roles where rolsuper") == "postgres"
    assert "authentication failed" in databases.query("sparsesearch", "select 1", user="sparsesearch", password="x")


@pytest.mark.slow
def test_the_commands_for_backups_work(databases: Databases, tmp_path: Path) -> None:
    """Those of docs/operations.md, run in the server's place."""
    from sparsesearch.store.migrate import upgrade

    text = OPERATIONS.replace("\\\n", " ")
    dump, restore = (
        shlex.split(re.search(rf"docker compose exec -T postgres ({program} [^\n]*?) [<>] backup/", text)[1])  # type: ignore[index]
        for program in ("pg_dump", "pg_restore -U")
    )
    names = re.search(r"for database in ([^;]*);", text)[1].split()  # type: ignore[index]
    assert {*names} == {"sparsesearch", "mlflow", "mlflow_auth"}
    who = {"user": "sparsesearch", "password": PASSWORDS["SPARSESEARCH_DB_PASSWORD"]}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PGPASSWORD", who["password"])
        upgrade(f"postgresql://sparsesearch@127.0.0.1:{databases.port}/sparsesearch")
    databases.query("sparsesearch", "insert into tokens values ('a', 'b', 'read', 1.0)", **who)
    databases.query("mlflow", "create table runs (name text)", user="mlflow", password=PASSWORDS["MLFLOW_DB_PASSWORD"])
    dumps = {}
    for name in names:
        done = databases.run(*[name if word == "$database" else word for word in dump])
        assert done.returncode == 0, done.stderr
        dumps[name] = done.stdout
    assert databases.query("sparsesearch", "delete from tokens", **who) == "DELETE 1"
    assert databases.query("mlflow", "drop table runs") == "DROP TABLE"
    for name in names:
        done = databases.run(*restore, stdin=dumps[name])
        assert done.returncode == 0, done.stderr
    assert databases.query("sparsesearch", "select name from tokens", **who) == "a"
    assert databases.query("mlflow", "select tableowner from pg_tables where tablename = 'runs'") == "mlflow"
    assert "permission denied" in databases.query("mlflow", "select 1", **who)


@pytest.mark.slow
def test_mlflow_by_its_command(databases: Databases, tmp_path: Path) -> None:
    """With users, on PostgreSQL; only the port, the artifacts and the file of settings are elsewhere."""
    service = SERVICES["mlflow"]
    port = free_port()
    moved = {
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": f"--port={port}",
        "/home/sparsesearch/mlflow-artifacts": str(tmp_path / "artifacts"),
        "/etc/mlflow-auth.ini": str(WORKERS / "mlflow-auth.ini"),
    }

    def placed(text: str) -> str:
        text = interpolated(text, PASSWORDS)
        for old, new in moved.items():
            text = text.replace(old, new)
        return text

    environment = {name: placed(value) for name, value in service["environment"].items()}
    assert environment["PGHOST"] == "postgres"
    environment = {**os.environ, **environment, "PGHOST": "127.0.0.1", "PGPORT": databases.port}
    words = [placed(word) for word in [*service["entrypoint"], *service["command"]]]
    command = [sys.executable, "-m", *words]

    without = {name: value for name, value in environment.items() if name != "MLFLOW_AUTH_ADMIN_PASSWORD"}
    done = subprocess.run(command, env=without, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode != 0
    assert "needs a password to create the admin user" in done.stderr

    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait_for(lambda: process.poll() is not None or status(f"http://127.0.0.1:{port}/health") == 200, seconds=180)
        address = f"http://127.0.0.1:{port}/api/2.0/mlflow/experiments/search?max_results=1"
        assert status(address) == 401, (tmp_path / "log").read_text()
        assert status(address, user="admin", password="wrong") == 401
        assert status(address, user="admin", password=PASSWORDS["MLFLOW_ADMIN_PASSWORD"]) == 200
        assert status(address, host="evil.example") == 403
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(30)
    users = databases.query("mlflow_auth", "select username, is_admin from users")
    assert users == "admin|t"


@pytest.mark.slow
def test_the_head_of_the_cluster_by_its_command() -> None:
    service = SERVICES["ray-head"]
    port, node_port = free_port(), free_port()
    moved = {"--port=6379": f"--port={port}", "--node-manager-port=6380": f"--node-manager-port={node_port}"}
    words = [moved.get(word, word) for word in program_of(service)]
    token = {name: interpolated(value, PASSWORDS) for name, value in service["environment"].items()}
    environment = {**os.environ, **token}
    program = [sys.executable, "-m", "ray.scripts.scripts"]
    check = [word.replace("6379", str(port)) for word in service["healthcheck"]["test"][2:]]
    assert check[0] == "health-check"
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp") as folder:  # a socket's path must be short
        log = Path(folder, "log")
        command = [*program, *words[1:], "--temp-dir", f"{folder}/ray"]
        with log.open("wb") as file:
            head = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        try:
            wait_for(lambda: head.poll() is not None or "runtime started" in log.read_text(), seconds=120)
            assert head.poll() is None, log.read_text()
            for given, code in ((environment, 0), ({**environment, "RAY_AUTH_TOKEN": "f" * 32}, 1)):
                done = subprocess.run([*program, *check], env=given, capture_output=True, check=False, timeout=120)
                assert done.returncode == code, done.stderr
            socket.create_connection(("127.0.0.1", node_port), timeout=5).close()
        finally:
            head.terminate()
            head.wait(60)


def status(url: str, *, user: str | None = None, password: str = "", host: str | None = None) -> int:
    """The status of a response; 0 if there is none."""
    request = urllib.request.Request(url)
    if user is not None:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
    if host is not None:
        request.add_header("Host", host)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        return error.code
    except OSError:
        return 0


def wait_for(condition: Any, *, seconds: float = 30.0) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.2)


def children(pid: int) -> int:
    return len(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def free_port() -> int:
    """A port that nobody uses, and that Ray does not give to its workers."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

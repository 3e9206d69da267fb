"""The service as it is deployed: PostgreSQL, MLflow with users, two Ray nodes with a token, the API, two controllers.

Everything is started with the commands of docker-compose.yml or their like, and then a part of it is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
import yaml
from postgres_server import postgres
from ray_nodes import two_nodes
from running import QUICK, Service, free_port, running_service, state, until
from sqlalchemy import create_engine, text

import sparsesearch

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]

ROOT = Path(__file__).parents[2]
PASSWORD = "a-password-of-this-test"


@contextmanager
def mlflow(folder: Path, postgres_url: str) -> Iterator[str]:
    """MLflow by the command of the compose file, with databases of its own in a PostgreSQL server."""
    engine = create_engine(postgres_url.replace("postgresql://", "postgresql+psycopg://"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for name in ("mlflow", "mlflow_auth"):
            connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["mlflow"]
    database, _, host = postgres_url.replace("postgresql://", "postgresql+psycopg://").partition("?")
    auth = folder / "auth.ini"
    template = (ROOT / "workers" / "mlflow-auth.ini").read_text(encoding="utf-8")
    stores = {name: f"{database.removesuffix('/postgres')}/{name}?{host}" for name in ("mlflow", "mlflow_auth")}
    auth.write_text(template.replace("postgresql+psycopg://mlflow@/mlflow_auth", stores["mlflow_auth"]), "utf-8")
    port = free_port()
    changed = {
        "--host=0.0.0.0": "--host=127.0.0.1",
        "--port=5000": f"--port={port}",
        "--backend-store-uri=postgresql+psycopg://mlflow@/mlflow": f"--backend-store-uri={stores['mlflow']}",
        "--artifacts-destination=/home/sparsesearch/mlflow-artifacts": f"--artifacts-destination={folder}/artifacts",
    }
    words = [changed.get(word, word) for word in (*service["entrypoint"], *service["command"]) if "${" not in word]
    assert set(changed.values()) < set(words), "the compose file has other options now"
    program = Path(sys.executable).with_name("mlflow")
    environment = {
        **os.environ,
        "MLFLOW_AUTH_CONFIG_PATH": str(auth),
        "MLFLOW_AUTH_ADMIN_PASSWORD": PASSWORD,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": "a-secret-of-this-test",
        **{
            key: service["environment"][key]
            for key in ("MLFLOW_DISABLE_TELEMETRY", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION")
        },
    }
    log = folder / "mlflow.log"
    with log.open("wb") as file:
        process = subprocess.Popen([program, *words[1:]], env=environment, stdout=file, stderr=file)
    address = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        assert process.poll() is None, log.read_text(encoding="utf-8", errors="replace")[-3000:]
        try:
            return requests.get(f"{address}/health", timeout=5).ok
        except requests.RequestException:
            return False

    try:
        until(answers, seconds=240, what="MLflow answers")
        yield address
    finally:
        process.terminate()
        process.wait(60)


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[tuple[Service, str, list[subprocess.Popen[bytes]], str]]:
    """The service, the address of the Ray head, the Ray nodes, and the address of MLflow."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}
    ray = {**os.environ, **token, "OMP_NUM_THREADS": "1", "SPARSESEARCH_HOME": str(tmp_path / "home")}
    with (
        postgres() as url,
        mlflow(tmp_path, url) as tracking,
        two_nodes(tmp_path, environment=ray) as (head, nodes),
        running_service(tmp_path / "home", url) as service,
    ):
        service.environment |= token
        service.environment |= {
            "MLFLOW_TRACKING_URI": tracking,
            "MLFLOW_TRACKING_USERNAME": "admin",
            "MLFLOW_TRACKING_PASSWORD": PASSWORD,
        }
        yield service, head, nodes, tracking


def test_six_studies_survive_a_lost_node_and_a_lost_controller(
    deployed: tuple[Service, str, list[subprocess.Popen[bytes]], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    service, head, nodes, tracking = deployed
    address = service.serve()
    client = service.client(address, "alice")
    first = [client.submit({**QUICK, "seed": seed}) for seed in range(3)]
    monkeypatch.setenv("SPARSESEARCH_TOKEN", service.token("bob", "submit"))
    others = sparsesearch.Client(address)
    second = [others.submit({**QUICK, "seed": seed}, priority=1).name for seed in range(3, 6)]
    cancelled, paused = first[2], first[1]
    controllers = [
        service.start("controller", "--studies", "1", "--ray-address", head, "--results", str(service.home / "results"))
        for _ in range(2)
    ]
    client.request("POST", f"/studies/{cancelled}/cancel")
    client.request("POST", f"/studies/{paused}/pause")
    until(lambda: any(state(client, name) == "RUNNING" for name in second), seconds=240, what="a study runs")
    os.killpg(controllers[0].pid, signal.SIGKILL)
    nodes[1].kill()
    client.request("POST", f"/studies/{paused}/resume")
    running = [name for name in (*first, *second) if name != cancelled]
    until(lambda: all(state(client, name) == "FINISHED" for name in running), seconds=900, what=service.logs())
    assert state(client, cancelled) == "CANCELLED"
    for name in running:
        front = client.get(f"/studies/{name}/front").json()
        assert front["points"], f"study {name} has a front"
        assert front["reference"]["state"] == "REFERENCE"
        trials = client.get(f"/studies/{name}/trials").json()["trials"]
        assert {trial["state"] for trial in trials} <= {"COMPLETE", "REFERENCE"}
        assert len({trial["id"] for trial in trials}) == len(trials)
        recipe = service.home / "results" / name / "best.yaml"  # written when the study has ended
        until(recipe.is_file, seconds=60, what=f"{recipe} is written")
    assert len(others.study(second[0]).front()) == len(client.get(f"/studies/{second[0]}/front").json()["points"])
    runs = requests.post(
        f"{tracking}/api/2.0/mlflow/experiments/search",
        json={"max_results": 10},
        auth=("admin", PASSWORD),
        timeout=30,
    ).json()["experiments"]
    assert "sparsesearch" in {one["name"] for one in runs}
    assert requests.get(f"{tracking}/api/2.0/mlflow/experiments/get?experiment_id=0", timeout=30).status_code == 401
    client.request("DELETE", f"/studies/{cancelled}")

"""Twenty studies submitted at once by three owners, and in which order two controllers on two Ray nodes run them.

    python benchmarks/service_queue.py [--folder FOLDER] [--studies 20]

PostgreSQL, two Ray nodes with a core each, the API, and two controllers that run two studies each, as processes of
their own on this machine. Small studies of the bundled task: what is shown is the order, and that all end.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "service"))

from postgres_server import PostgresServer, postgres_programs
from ray_nodes import two_nodes
from running import QUICK, running_service

from sparsesearch.store.sql import open_store

OWNERS = ("alice", "bob", "carol")
_OVER = ("FINISHED", "FAILED", "CANCELLED")


def main() -> None:
    """Print a line for each study, in the order in which they were started."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path())
    parser.add_argument("--studies", type=int, default=20)
    options = parser.parse_args()
    programs = postgres_programs()
    if programs is None:
        raise SystemExit("PostgreSQL's server is not installed; run: apt-get install postgresql")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name).resolve()
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0123456789abcdef0123456789abcdef"}
        environment = {**os.environ, **token, "OMP_NUM_THREADS": "1"}
        with (
            PostgresServer(programs).running() as url,
            two_nodes(folder, environment=environment) as (head, _),
            running_service(folder / "home", url) as service,
        ):
            service.environment |= token
            address = service.serve()
            clients = {owner: service.client(address, owner) for owner in OWNERS}
            submitted = {}
            for i in range(options.studies):  # alice submits most, and first
                owner = OWNERS[0] if i < options.studies // 2 else OWNERS[1 + i % 2]
                priority = 5 if i % 7 == 6 else 0
                study = clients[owner].submit({**QUICK, "seed": i, "name": f"study-{i:02d}"}, priority=priority)
                submitted[study] = (owner, priority)
            began = time.time()
            for _ in range(2):
                service.start("controller", "--no-mlflow", "--studies", "2", "--ray-address", head)
            store = open_store(url)
            started: dict[str, float] = {}
            ended: dict[str, tuple[float, str]] = {}
            while len(ended) < len(submitted):
                for study in submitted:
                    state = store.condition(study).state.value
                    if state != "QUEUED":
                        started.setdefault(study, time.time() - began)
                    if state in _OVER:
                        ended.setdefault(study, (time.time() - began, state))
                time.sleep(0.5)
            store.close()
    print("| order | study | owner | priority | started after, s | ended after, s | state |\n" + "|---" * 7 + "|")
    for order, study in enumerate(sorted(submitted, key=lambda one: started[one]), start=1):
        owner, priority = submitted[study]
        at, state = ended[study]
        print(f"| {order} | {study} | {owner} | {priority} | {started[study]:.0f} | {at:.0f} | {state} |")


if __name__ == "__main__":
    main()

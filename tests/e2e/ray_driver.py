"""Runs (or goes on with) one tiny real study on Ray in this process. Usage: ray_driver.py HOME [ADDRESS [STORAGE]].

`MEET_S` in the environment is how long a fine-tuning waits for one in another process.
Exit codes are those of the command line.
"""

from __future__ import annotations

import os
import sys
from contextlib import closing
from pathlib import Path

from noting import noting

from sparsesearch.app.complete import complete
from sparsesearch.app.lease_keeper import LeaseKeeper
from sparsesearch.app.resolve import resolve
from sparsesearch.app.signals import stopping_on_signals
from sparsesearch.dispatch.tune import RayDispatcher
from sparsesearch.search.controller import StagedController
from sparsesearch.store.sql import open_store
from sparsesearch.study.progress import Silent
from sparsesearch.study.spec import StudySpec
from sparsesearch.study.stop import StoppedError, StopToken

NAME = "tiny"
DOCUMENT = {
    "name": NAME,
    "backbone": "deit_pico",
    "budget": {"unit": "fraction", "high": 0.35},
    "data": {"num_val_images": 240},
    "precision": "float32",
    "device": "cpu",
    "fidelity": {
        "evaluations": 4,
        "finalists": 2,
        "dense": {"epochs": 2, "images_per_epoch": 192},
        "supernet_training": {"epochs": 2, "images_per_epoch": 192},
        "finetune": {"epochs": 2, "images_per_epoch": 192},
    },
    # Two trials at a time; the trainings before them get one core, so that all compute with one thread.
    "resources": {"cpus_per_trial": 0.5, "max_concurrent": 2},
}


def open_or_create(home: Path) -> StudySpec:
    """The prepared study; stored if it is not yet."""
    store = open_store(f"sqlite:///{home}/studies.db")
    if NAME not in store.studies():
        store.create_study(resolve(complete(DOCUMENT, progress=Silent()), progress=Silent())).close()
    return store.spec(NAME)


def main(home: Path, address: str | None, storage: Path) -> int:
    """Run it."""
    spec = open_or_create(home)
    resources = spec.resources
    if address is not None:  # one trial a node
        resources = resources.model_copy(update={"ray_address": address, "cpus_per_trial": 1.0})
    assert spec.resolved is not None
    (home / "notes").mkdir(exist_ok=True)
    with closing(open_store(f"sqlite:///{home}/studies.db").open_study(NAME)) as writer:
        token = StopToken()
        dispatcher = RayDispatcher(resources, storage=storage, stop=token)
        meet_s = float(os.environ.get("MEET_S", "0"))
        evaluator = noting(spec, storage=storage, cache=home / "cache", notes=home / "notes", meet_s=meet_s)
        with LeaseKeeper(writer, token), stopping_on_signals(token, at_once=False):
            try:
                dispatcher.run(StagedController(spec, spec.resolved.geometry), writer, evaluator)
            except StoppedError as error:
                return error.exit_code
    return 0


if __name__ == "__main__":
    given = [*sys.argv[1:], *[""] * 3]
    where = Path(given[0])
    code = main(where, given[1] or None, Path(os.path.abspath(given[2])) if given[2] else where / "storage")
    sys.exit(code)

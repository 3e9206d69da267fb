"""Ray on this machine for the tests of a module."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import ray

import sparsesearch


@contextmanager
def local_cluster() -> Iterator[None]:
    """Two CPUs; workers find the modules beside the tests and this checkout's package."""
    path = os.pathsep.join([str(Path(__file__).parent), str(Path(sparsesearch.__file__).parents[1])])
    environment = pytest.MonkeyPatch()
    environment.setenv("RAY_worker_niceness", "0")
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=128 * 2**20,
        runtime_env={"env_vars": {"PYTHONPATH": path}},
    )
    yield
    ray.shutdown()
    environment.undo()

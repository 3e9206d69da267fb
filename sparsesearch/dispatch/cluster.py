"""Ray: started on this machine or joined, quietly, and what room it has for trials."""

from __future__ import annotations

import logging
import math
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from sparsesearch.errors import ClusterError, one_line
from sparsesearch.study.spec import ResourceSpec

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_worker_niceness": "0",  # 15 by default: beside any other work, trials would get what is left of the cores
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "10",
}
_OBJECT_STORE_BYTES = 128 * 2**20  # only short texts cross processes
_EPSILON = 1e-6
_KNOCK_S = 5.0


@dataclass(frozen=True)
class Node:
    """A machine of the cluster.

    Attributes:
        id: Ray's name of it.
        address: Where it is, for people.
        cpus: Cores that Ray may hand out.
        gpus: GPUs that Ray may hand out.
    """

    id: str
    address: str
    cpus: float
    gpus: float

    def room(self, *, cpus: float, gpus: float) -> int:
        """How many trials fit."""
        by_cpu = math.floor(self.cpus / cpus + _EPSILON)
        if gpus == 0:
            return by_cpu
        if gpus < 1:
            return min(by_cpu, math.floor(self.gpus) * math.floor(1 / gpus + _EPSILON))
        return min(by_cpu, math.floor(self.gpus / gpus + _EPSILON))


@dataclass(frozen=True)
class Share:
    """What one trial may use.

    Attributes:
        cpus: Cores.
        gpus: GPUs.
    """

    cpus: float
    gpus: float

    @property
    def threads(self) -> int:
        """Threads to compute with."""
        return max(1, math.floor(self.cpus + _EPSILON))


@dataclass(frozen=True)
class Room:
    """How the trials of a study share a cluster.

    Attributes:
        concurrent: How many trials run at a time.
        trial: The share of each.
        reference: The share of a training that nothing runs beside.
    """

    concurrent: int
    trial: Share
    reference: Share

    @classmethod
    def of(cls, nodes: list[Node], resources: ResourceSpec, *, uses_gpu: bool) -> Room:
        """Share a cluster.

        Args:
            nodes: Its machines.
            resources: What the study asks for.
            uses_gpu: Whether the study computes on GPUs.

        Raises:
            ClusterError: No machine has room for a trial, or a study on GPUs asks for none.
        """
        cpus = resources.cpus_per_trial
        gpus = resources.gpus_per_trial if resources.gpus_per_trial is not None else float(uses_gpu)
        if uses_gpu and gpus == 0:
            raise ClusterError("the study computes on a GPU but its trials get none; give --gpus-per-trial, e.g. 0.25")
        fitting = sum(node.room(cpus=cpus, gpus=gpus) for node in nodes)
        if fitting == 0:
            most = ", ".join(f"{node.address}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes)
            raise ClusterError(
                f"no machine of the Ray cluster has room for a trial of {cpus:g} CPUs and {gpus:g} GPUs ({most}); "
                "lower --cpus-per-trial or --gpus-per-trial"
            )
        concurrent = min(fitting, resources.max_concurrent or fitting)
        able = [node for node in nodes if node.room(cpus=cpus, gpus=gpus) > 0]
        reference = Share(
            cpus=min(concurrent * cpus, max(node.cpus for node in able)),
            gpus=gpus if gpus >= 1 else min(1.0, concurrent * gpus),
        )
        return cls(concurrent=concurrent, trial=Share(cpus=cpus, gpus=gpus), reference=reference)


@contextmanager
def joined(address: str | None) -> Iterator[list[Node]]:
    """A Ray cluster and its machines, while the block runs.

    Args:
        address: A cluster to join, None to start Ray on this machine and end it with the block. A cluster that this
            process has already joined is used and left as it is.

    Raises:
        ClusterError: Ray cannot be started or joined.
    """
    with _environment(_ENVIRONMENT), _quiet():
        ours = not ray.is_initialized()
        if ours:
            _start(address)
        try:
            yield _nodes()
        finally:
            if ours:
                ray.shutdown()


def _start(address: str | None) -> None:
    if address not in (None, "auto"):
        _knock(address)
    local = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES} if address is None else {}
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **local,  # type: ignore[arg-type]
        )
    except Exception as error:  # Ray raises many kinds
        where = "started on this machine" if address is None else f"joined at {address}"
        raise ClusterError(f"Ray cannot be {where} ({one_line(error)}); see docs/ray.md") from error


def _knock(address: str) -> None:
    """See that somebody listens there; Ray itself would try for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_KNOCK_S).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster at {address} ({one_line(error)}); start one with: ray start --head, see docs/ray.md"
        ) from error


def _nodes() -> list[Node]:
    return [
        Node(
            id=str(node["NodeID"]),
            address=str(node["NodeManagerAddress"]),
            cpus=float(node["Resources"].get("CPU", 0.0)),
            gpus=float(node["Resources"].get("GPU", 0.0)),
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables that Ray reads, set where the user has not set them, and taken away again."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Tune's own remarks about trials that failed, left out: they are in our store, with their reasons."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

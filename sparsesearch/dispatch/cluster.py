"""Start Ray or connect to a cluster, and allocate its resources to trials."""

from __future__ import annotations

import logging
import math
import os
import signal
import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import ray

from sparsesearch.dispatch.temporary import shorten_tmpdir
from sparsesearch.errors import ClusterError, one_line
from sparsesearch.study.spec import ResourceSpec

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_worker_niceness": "0",  # 15 by default, so that trials would get only idle CPU time
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "10",
}
_OBJECT_STORE_BYTES = 128 * 2**20  # processes exchange only short texts
_EPSILON = 1e-6
_CONNECT_SECONDS = 5.0


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    Attributes:
        id: Ray's node id.
        address: Address of the node, for messages.
        cpus: CPU cores that Ray can allocate.
        gpus: GPUs that Ray can allocate.
    """

    id: str
    address: str
    cpus: float
    gpus: float

    def num_trials(self, *, cpus: float, gpus: float) -> int:
        """Return how many trials of this size fit on the node."""
        by_cpu = math.floor(self.cpus / cpus + _EPSILON)
        if gpus == 0:
            return by_cpu
        if gpus < 1:
            return min(by_cpu, math.floor(self.gpus) * math.floor(1 / gpus + _EPSILON))
        return min(by_cpu, math.floor(self.gpus / gpus + _EPSILON))


@dataclass(frozen=True)
class TrialResources:
    """The resources of one trial.

    Attributes:
        cpus: CPU cores.
        gpus: GPUs; may be a fraction.
    """

    cpus: float
    gpus: float

    @property
    def bundle(self) -> dict[str, float]:
        """The resources by Ray's names."""
        return {"CPU": self.cpus} | ({"GPU": self.gpus} if self.gpus else {})

    @property
    def threads(self) -> int:
        """Number of CPU threads."""
        return max(1, math.floor(self.cpus + _EPSILON))


@dataclass(frozen=True)
class Allocation:
    """How the resources of a cluster are allocated to the trials of a study.

    Attributes:
        concurrent: Maximum number of concurrent trials.
        trial: Resources of each trial.
        workers: Number of processes of a dense or supernet training, which runs alone.
        reference: Resources of each of these processes.
    """

    concurrent: int
    trial: TrialResources
    workers: int
    reference: TrialResources

    @classmethod
    def of(cls, nodes: list[Node], resources: ResourceSpec, *, uses_gpu: bool, batch_size: int = 1024) -> Allocation:
        """Allocate the resources of a cluster.

        Args:
            nodes: The nodes of the cluster.
            resources: The resources that the study requests.
            uses_gpu: Whether the study computes on GPUs.
            batch_size: Images of a step of the trainings that run alone, of which each process gets at least one.

        Raises:
            ClusterError: A trial or a training fits on no node, or a study on GPUs requests none.
        """
        cpus = resources.cpus_per_trial
        gpus = resources.gpus_per_trial if resources.gpus_per_trial is not None else float(uses_gpu)
        if uses_gpu and gpus == 0:
            raise ClusterError("the study uses a GPU, but its trials get none; use --gpus-per-trial, e.g. 0.25")
        fitting = sum(node.num_trials(cpus=cpus, gpus=gpus) for node in nodes)
        if fitting == 0:
            available = ", ".join(f"{node.address}: {node.cpus:g} CPUs, {node.gpus:g} GPUs" for node in nodes)
            raise ClusterError(
                f"no machine of the Ray cluster can run a trial with {cpus:g} CPUs and {gpus:g} GPUs ({available}); "
                "lower --cpus-per-trial or --gpus-per-trial"
            )
        concurrent = min(fitting, resources.max_concurrent or fitting)
        suitable = [node for node in nodes if node.num_trials(cpus=cpus, gpus=gpus) > 0]
        workers = resources.workers_per_training or (
            min(batch_size, math.floor(sum(node.gpus for node in suitable))) if uses_gpu else 1
        )
        if workers == 1:
            reference = TrialResources(
                cpus=min(concurrent * cpus, max(node.cpus for node in suitable)),
                gpus=gpus if gpus >= 1 else min(1.0, concurrent * gpus),
            )
        else:
            most = math.inf if uses_gpu else concurrent * cpus / workers
            reference = _fraction(suitable, workers=workers, gpus=float(uses_gpu), most_cpus=most)
        return cls(
            concurrent=concurrent, trial=TrialResources(cpus=cpus, gpus=gpus), workers=workers, reference=reference
        )


def _fraction(nodes: list[Node], *, workers: int, gpus: float, most_cpus: float) -> TrialResources:
    """The resources of each process of a training: as many cores as all of them can have at once.

    Raises:
        ClusterError: There are fewer GPUs than processes.
    """
    for cpus in sorted({node.cpus / count for node in nodes for count in range(1, workers + 1)}, reverse=True):
        if sum(node.num_trials(cpus=cpus, gpus=gpus) for node in nodes) >= workers:
            return TrialResources(cpus=min(cpus, most_cpus), gpus=gpus)
    raise ClusterError(
        f"a training cannot have {workers} processes with a GPU each, since the Ray cluster has "
        f"{sum(node.gpus for node in nodes):g} GPUs; lower --workers-per-training"
    )


@contextmanager
def joined(address: str | None) -> Iterator[list[Node]]:
    """Connect to a Ray cluster while the block runs, and yield its nodes.

    Args:
        address: Address of a cluster, or None to start Ray on this machine and stop it after the block. If this process
            is already connected to a cluster, that one is used and stays connected.

    Raises:
        ClusterError: Ray cannot be started, or the cluster cannot be reached.
    """
    with _environment(_ENVIRONMENT), _quiet():
        is_owner = not ray.is_initialized()
        if is_owner:
            _start(address)
        try:
            yield _nodes()
        finally:
            if is_owner:
                ray.shutdown()


def _start(address: str | None) -> None:
    if address not in (None, "auto"):
        _check_reachable(address)
    local = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES} if address is None else {}
    shorten_tmpdir()
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **local,  # type: ignore[arg-type]
        )
    except Exception as error:  # Ray raises many types
        what = "start Ray on this machine" if address is None else f"connect to the Ray cluster at {address}"
        raise ClusterError(f"cannot {what} ({one_line(error)}); see docs/ray.md") from error
    finally:
        if callable(on_terminate) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray sets its own, which exits at once


def _check_reachable(address: str) -> None:
    """Check that the address accepts connections; Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
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
    """Set environment variables for Ray that the user has not set, and unset them afterwards."""
    added = {name: value for name, value in values.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Ray Tune's messages about failed trials, which are in the study store with their reasons."""
    loggers = [logging.getLogger(name) for name in ("ray.tune", "ray.train")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)

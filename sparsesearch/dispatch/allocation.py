"""How the resources of machines are divided among the trials of a study."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from sparsesearch.errors import ClusterError
from sparsesearch.study.spec import ResourceSpec

DeviceKind = Literal["cpu", "cuda"]

_EPSILON = 1e-6


@dataclass(frozen=True)
class Node:
    """A node of the cluster.

    Attributes:
        id: Ray's node id.
        address: Address of the node, for messages.
        cpus: CPU cores that Ray can allocate.
        gpus: GPUs that Ray can allocate.
        host: Its host name; empty if it is not known.
    """

    id: str
    address: str
    cpus: float
    gpus: float
    host: str = ""

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
        if uses_gpu:
            reference = _fraction(suitable, workers=workers, gpus=1.0)
        elif workers > 1:
            most = concurrent * cpus / workers
            reference = TrialResources(cpus=min(_fraction(suitable, workers=workers).cpus, most), gpus=0.0)
        else:
            reference = TrialResources(cpus=min(concurrent * cpus, max(node.cpus for node in suitable)), gpus=0.0)
        return cls(
            concurrent=concurrent, trial=TrialResources(cpus=cpus, gpus=gpus), workers=workers, reference=reference
        )


def _fraction(nodes: list[Node], *, workers: int, gpus: float = 0.0) -> TrialResources:
    """The resources of each process of a training: as many cores as all of them can have at once.

    Raises:
        ClusterError: There are fewer GPUs than processes.
    """
    for cpus in sorted({node.cpus / count for node in nodes for count in range(1, workers + 1)}, reverse=True):
        if sum(node.num_trials(cpus=cpus, gpus=gpus) for node in nodes) >= workers:
            return TrialResources(cpus=cpus, gpus=gpus)
    raise ClusterError(
        f"a training cannot have {workers} processes with a GPU each, since the Ray cluster has "
        f"{sum(node.gpus for node in nodes):g} GPUs; lower --workers-per-training"
    )


def device_of_trials(requested: str, nodes: list[Node], resources: ResourceSpec) -> DeviceKind:
    """The device that trials compute on, as the nodes of the cluster have it, whatever this machine has.

    Args:
        requested: The device of the study.
        nodes: The nodes of the cluster.
        resources: The resources that the study requests.

    Returns:
        For `auto`, a GPU if a trial with one fits on a node.
    """
    if requested != "auto":
        return "cpu" if requested == "cpu" else "cuda"
    gpus = 1.0 if resources.gpus_per_trial is None else resources.gpus_per_trial
    has_gpu = gpus > 0 and any(node.num_trials(cpus=resources.cpus_per_trial, gpus=gpus) for node in nodes)
    return "cuda" if has_gpu else "cpu"

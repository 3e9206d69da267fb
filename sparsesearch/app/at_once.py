"""How many devices a study will use at the same time."""

from __future__ import annotations

import os

import torch

from sparsesearch.dispatch.allocation import Allocation, Node
from sparsesearch.evaluate.rates import AtOnce
from sparsesearch.study.spec import StudySpec


def devices_at_once(spec: StudySpec, *, device: torch.device) -> AtOnce:
    """How many devices like this process's will work at the same time, for the plan of a study.

    Args:
        spec: The study.
        device: What speeds are measured on: one GPU, or as many cores as torch has threads.

    Raises:
        ClusterError: The cluster cannot be reached, or lacks resources for a trial.
    """
    if spec.dispatcher == "inline":
        return AtOnce()
    uses_gpu = device.type == "cuda"
    nodes = _nodes(spec.resources.ray_address)
    batch_size = min(spec.fidelity.dense.batch_size, spec.fidelity.supernet_training.batch_size)
    allocation = Allocation.of(nodes, spec.resources, uses_gpu=uses_gpu, batch_size=batch_size)
    if uses_gpu:
        trials = min(allocation.concurrent, sum(node.gpus for node in nodes))
        return AtOnce(reference=allocation.workers, trials=trials)
    threads = allocation.workers * allocation.reference.threads
    trial_threads = allocation.concurrent * allocation.trial.threads
    most, measured = sum(node.cpus for node in nodes), torch.get_num_threads()
    return AtOnce(reference=min(threads, most) / measured, trials=min(trial_threads, most) / measured)


def _nodes(address: str | None) -> list[Node]:
    """The machines of a cluster, or this one, on which Ray is not started for that."""
    if address is None:
        return [Node(id="", address="", cpus=len(os.sched_getaffinity(0)), gpus=torch.cuda.device_count())]
    from sparsesearch.dispatch.cluster import joined  # Ray takes seconds to load

    with joined(address) as cluster:
        return cluster.nodes

"""Ray: started here, or the nodes of a cluster; one task on each node."""

from __future__ import annotations

from importlib.metadata import version

from sparsesearch.app.doctor.finding import FailedCheckError, Surroundings
from sparsesearch.dispatch.cluster import joined
from sparsesearch.dispatch.on_node import run_on
from sparsesearch.dispatch.storage_probe import check_shared
from sparsesearch.text import counted

_TASK_SECONDS = 60.0


def cluster(surroundings: Surroundings) -> str:
    """Every node executes a task, has this version of the package, and sees the storage."""
    address, here = surroundings.ray_address, version("sparsesearch")
    with joined(address) as joined_cluster:
        nodes = joined_cluster.nodes
        for node in nodes:
            there = run_on(node, version, "sparsesearch", timeout_s=_TASK_SECONDS)
            if there != here:
                raise FailedCheckError(
                    f"node {node.address} has sparsesearch {there}, and this machine has {here}",
                    fix="install the same version on all machines",
                )
        check_shared(surroundings.storage, nodes)
        cpus, gpus = sum(node.cpus for node in nodes), sum(node.gpus for node in nodes)
    where = "starts on this machine" if address is None else f"at {address}"
    return f"Ray {version('ray')} {where}: {counted(len(nodes), 'node')}, {cpus:g} CPUs, {gpus:g} GPUs"

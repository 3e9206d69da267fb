"""Run a function on one node of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sparsesearch.dispatch.allocation import Node
from sparsesearch.dispatch.lost_machine import lost_machine
from sparsesearch.errors import ClusterError, InfrastructureError, one_line

_T = TypeVar("_T")


def run_on(node: Node, function: Callable[..., _T], *arguments: object, timeout_s: float) -> _T:
    """Run a function of this package on a node, and return its result.

    Args:
        node: The node.
        function: A function at the top level of a module.
        arguments: Its arguments.
        timeout_s: How long it may take, in seconds.

    Raises:
        ClusterError: The node does not execute it.
        InfrastructureError: The node does not answer, or was lost.
    """
    task = ray.remote(function).options(
        num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False), max_retries=1
    )
    try:
        found: _T = ray.get(task.remote(*arguments), timeout=timeout_s)
    except ray.exceptions.GetTimeoutError as error:
        raise InfrastructureError(f"node {node.address} of the Ray cluster does not answer") from error
    except ray.exceptions.RayError as error:
        if (lost := lost_machine(str(error))) is not None:
            raise lost from error
        cause = (isinstance(error, ray.exceptions.RayTaskError) and error.cause) or error
        raise ClusterError(
            f"node {node.address} does not execute a task: {one_line(cause)}; check that sparsesearch is installed "
            "there, and /tmp/ray/session_latest/logs on that node"
        ) from error
    return found

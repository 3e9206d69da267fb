from __future__ import annotations

from typing import Any

import pytest

from sparsesearch.dispatch.allocation import Allocation, Node, device_of_trials
from sparsesearch.errors import ClusterError
from sparsesearch.study.spec import ResourceSpec


def node(cpus: float, gpus: float = 0.0) -> Node:
    return Node(id="x", address="here", cpus=cpus, gpus=gpus)


@pytest.mark.parametrize(
    ("nodes", "resources", "concurrent", "workers", "cpus"),
    [
        ([node(2)], {}, 2, 1, 2),
        ([node(2)], {"cpus_per_trial": 0.5}, 4, 1, 2),
        ([node(2)], {"cpus_per_trial": 0.5, "max_concurrent": 2}, 2, 1, 1),
        ([node(2)], {"max_concurrent": 8}, 2, 1, 2),
        ([node(8), node(16)], {"cpus_per_trial": 4}, 6, 1, 16),
        ([node(8), node(16)], {"cpus_per_trial": 4, "workers_per_training": 3}, 6, 3, 8),
        ([node(2)], {"workers_per_training": 2}, 2, 2, 1),
        ([node(2)], {"workers_per_training": 4}, 2, 4, 0.5),
        ([node(2)], {"workers_per_training": 2, "cpus_per_trial": 0.5, "max_concurrent": 2}, 2, 2, 0.5),
        ([node(1), node(3)], {"workers_per_training": 2}, 4, 2, 1.5),
    ],
)
def test_on_cpus(nodes: list[Node], resources: dict[str, Any], concurrent: int, workers: int, cpus: float) -> None:
    allocation = Allocation.of(nodes, ResourceSpec(**resources), uses_gpu=False)
    assert (allocation.concurrent, allocation.workers) == (concurrent, workers)
    assert (allocation.reference.cpus, allocation.reference.gpus) == (cpus, 0)
    assert sum(node.num_trials(cpus=cpus, gpus=0) for node in nodes) >= workers, "they would wait forever"


@pytest.mark.parametrize(
    ("nodes", "resources", "concurrent", "workers", "cpus"),
    [
        ([node(16, 1)], {}, 1, 1, 16),
        ([node(16, 1)], {"gpus_per_trial": 0.25, "cpus_per_trial": 2}, 4, 1, 16),
        ([node(16, 2)], {"gpus_per_trial": 0.3}, 6, 2, 8),
        ([node(128, 8), node(128, 8)], {}, 16, 16, 16),
        ([node(128, 8), node(64, 4)], {"workers_per_training": 4}, 12, 4, 128 / 3),
        ([node(0, 0), node(16, 4)], {"gpus_per_trial": 2, "cpus_per_trial": 4}, 2, 4, 4),
    ],
)
def test_on_gpus(nodes: list[Node], resources: dict[str, Any], concurrent: int, workers: int, cpus: float) -> None:
    allocation = Allocation.of(nodes, ResourceSpec(**resources), uses_gpu=True)
    assert (allocation.concurrent, allocation.workers) == (concurrent, workers)
    assert (allocation.reference.cpus, allocation.reference.gpus) == (cpus, 1)


def test_a_small_batch_is_divided_among_no_more_processes_than_it_has_images() -> None:
    assert Allocation.of([node(64, 8)], ResourceSpec(), uses_gpu=True, batch_size=4).workers == 4


def test_more_processes_than_gpus_are_refused() -> None:
    with pytest.raises(ClusterError, match="--workers-per-training"):
        Allocation.of([node(16, 2)], ResourceSpec(workers_per_training=3), uses_gpu=True)


def test_a_study_on_a_gpu_whose_trials_get_none_is_refused() -> None:
    with pytest.raises(ClusterError, match="--gpus-per-trial"):
        Allocation.of([node(16, 1)], ResourceSpec(gpus_per_trial=0), uses_gpu=True)


@pytest.mark.parametrize(
    ("requested", "nodes", "resources", "device"),
    [
        ("auto", [node(2, 0)], {}, "cpu"),
        ("auto", [node(2, 0), node(16, 8)], {}, "cuda"),
        ("auto", [node(2, 0), node(16, 8)], {"gpus_per_trial": 0}, "cpu"),
        ("auto", [node(2, 1)], {"gpus_per_trial": 2}, "cpu"),
        ("auto", [node(2, 0), node(16, 1)], {"gpus_per_trial": 0.25}, "cuda"),
        ("cpu", [node(16, 8)], {}, "cpu"),
        ("cuda", [node(2, 0)], {}, "cuda"),
        ("cuda:1", [node(16, 1)], {}, "cuda"),
    ],
)
def test_the_cluster_decides_the_device(
    requested: str, nodes: list[Node], resources: dict[str, Any], device: str
) -> None:
    assert device_of_trials(requested, nodes, ResourceSpec(**resources)) == device

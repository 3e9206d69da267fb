from __future__ import annotations

import re

import pytest

from sparsesearch.dispatch.cluster import joined, only_gpu
from sparsesearch.errors import ClusterError


@pytest.mark.parametrize(
    "address", ["nowhere.invalid:6379", "127.0.0.1:1", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:99999"]
)
def test_a_cluster_that_is_not_there_is_refused_at_once(address: str) -> None:
    with (
        pytest.raises(ClusterError, match=f"no Ray cluster at {re.escape(address)} .*ray start --head"),
        joined(address),
    ):
        raise AssertionError("joined what is not there")


@pytest.mark.parametrize(
    ("device", "visible", "expected"),
    [
        ("auto", None, None),
        ("cuda", "3", None),
        ("cuda:1", None, "1"),
        ("cuda:1", "4,6", "6"),
        ("cuda:0", "GPU-8f", "GPU-8f"),
    ],
)
def test_a_ray_of_this_machine_sees_the_gpu_that_was_named(
    device: str, visible: str | None, expected: str | None
) -> None:
    environment = {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    found = only_gpu(device, address=None, environment=environment)
    assert found == ({} if expected is None else {"CUDA_VISIBLE_DEVICES": expected})


def test_a_gpu_of_a_cluster_has_no_number() -> None:
    with pytest.raises(ClusterError, match=r"use --device cuda$"):
        only_gpu("cuda:1", address="auto", environment={})

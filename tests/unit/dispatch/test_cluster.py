from __future__ import annotations

import re

import pytest

from sparsesearch.dispatch.cluster import joined
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

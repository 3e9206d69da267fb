"""Running a function on a machine of a cluster."""

from __future__ import annotations

import platform
import shutil
import subprocess

import pytest

from sparsesearch.dispatch.cluster import joined
from sparsesearch.dispatch.on_node import run_on
from sparsesearch.errors import ClusterError, InfrastructureError

pytestmark = pytest.mark.slow


def test_what_a_node_answers() -> None:
    with joined(None) as cluster:
        (node,) = cluster.nodes
        assert run_on(node, platform.node, timeout_s=60.0) == platform.node()
        with pytest.raises(ClusterError, match="No such file"):
            run_on(node, shutil.disk_usage, "/nowhere/at/all", timeout_s=60.0)
        with pytest.raises(InfrastructureError, match="does not answer"):
            run_on(node, subprocess.run, ["sleep", "20"], timeout_s=2.0)

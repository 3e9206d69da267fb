"""Check that all machines of a cluster share the storage, by writing and reading files before the first trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from sparsesearch.dispatch.allocation import Node
from sparsesearch.dispatch.on_node import run_on
from sparsesearch.errors import ClusterError

_TIMEOUT_S = 120.0


def answer(probe: str, text: str) -> str | None:
    """Read the probe file on a worker's machine and write a file next to it; return None, or what went wrong."""
    path = Path(probe)
    try:
        if path.read_text(encoding="ascii") != text:
            return "it has different contents"
        path.with_name(f"{path.name}.{uuid4().hex}").write_text(text, encoding="ascii")
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def check_shared(storage: Path, nodes: Sequence[Node]) -> None:
    """Check that this machine and all nodes can read each other's files in a folder.

    Args:
        storage: The folder, created if it does not exist.
        nodes: The nodes; nothing is checked if there is only one.

    Raises:
        ClusterError: A node does not see the same folder.
        InfrastructureError: A node does not answer.
    """
    if len(nodes) < 2:
        return
    text = uuid4().hex
    probe = storage / f".probe-{text}"
    try:
        storage.mkdir(parents=True, exist_ok=True)
        probe.write_text(text, encoding="ascii")
    except OSError as error:
        raise ClusterError(f"cannot write to the storage {storage} ({error.strerror}); use --storage PATH") from error
    try:
        for number, node in enumerate(nodes, start=1):
            problem = _run_on(node, probe, text)
            if problem is None and len(list(storage.glob(f"{probe.name}.*"))) != number:
                problem = "files that it writes are not visible here"
            if problem is not None:
                raise ClusterError(
                    f"the storage {storage} is not shared with {node.address} ({problem}); "
                    "use --storage PATH with a path where all machines of the cluster mount the same filesystem"
                )
    finally:
        for path in storage.glob(f"{probe.name}*"):
            path.unlink(missing_ok=True)


def _run_on(node: Node, probe: Path, text: str) -> str | None:
    try:
        return run_on(node, answer, str(probe), text, timeout_s=_TIMEOUT_S)
    except ClusterError as error:
        return str(error)

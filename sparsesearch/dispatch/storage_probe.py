"""Do all machines of a cluster see the same storage? Found out by writing and reading, before the first trial."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from sparsesearch.dispatch.cluster import Node
from sparsesearch.errors import ClusterError, one_line

_TIMEOUT_S = 120.0


def answer(question: str, text: str) -> str | None:
    """On a worker's machine: read the question and write the answer beside it; None, or what went wrong."""
    path = Path(question)
    try:
        if path.read_text(encoding="ascii") != text:
            return "another file is there"
        path.with_name(f"{path.name}.{uuid4().hex}").write_text(text, encoding="ascii")
    except OSError as error:
        return error.strerror or type(error).__name__
    return None


def check_shared(storage: Path, nodes: Sequence[Node]) -> None:
    """See that what one machine writes into a folder, the others can read, and the other way round.

    Args:
        storage: The folder, made if it is not there.
        nodes: The machines; nothing is checked if there is only one.

    Raises:
        ClusterError: Some machine does not see the same folder.
    """
    if len(nodes) < 2:
        return
    text = uuid4().hex
    question = storage / f".probe-{text}"
    try:
        storage.mkdir(parents=True, exist_ok=True)
        question.write_text(text, encoding="ascii")
    except OSError as error:
        raise ClusterError(
            f"cannot write into the storage {storage} ({error.strerror}); give --storage PATH"
        ) from error
    try:
        for number, node in enumerate(nodes, start=1):
            complaint = _ask(node, question, text)
            if complaint is None and len(list(storage.glob(f"{question.name}.*"))) != number:
                complaint = "what it writes does not arrive here"
            if complaint is not None:
                raise ClusterError(
                    f"the storage {storage} is not shared with {node.address} ({complaint}); "
                    "give --storage PATH on a filesystem that all machines of the cluster mount at this path"
                )
    finally:
        for path in storage.glob(f"{question.name}*"):
            path.unlink(missing_ok=True)


def _ask(node: Node, question: Path, text: str) -> str | None:
    task = ray.remote(answer).options(
        num_cpus=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False), max_retries=1
    )
    try:
        found: str | None = ray.get(task.remote(str(question), text), timeout=_TIMEOUT_S)
    except ray.exceptions.RayError as error:
        return f"it does not answer: {one_line(error)}"
    return found

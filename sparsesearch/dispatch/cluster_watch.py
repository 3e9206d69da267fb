"""Notice that a Ray cluster, or this machine's part of it, no longer works; Ray's own calls would wait for ever."""

from __future__ import annotations

import atexit
import gc
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

import ray

from sparsesearch.dispatch.allocation import Node
from sparsesearch.errors import InfrastructureError

logger = logging.getLogger(__name__)

_EVERY_S, _LOOK_S = 3.0, 1.0
_ANSWER_S = 25.0  # after 60 s, Ray ends the process
_LEAVE_S = 15.0
_SHUTDOWN_S = 15.0
_SERVERS = ("raylet", "gcs_server")


def living_nodes() -> list[Node]:
    """Return the machines of the cluster that are alive."""
    return [
        Node(
            id=str(node["NodeID"]),
            address=str(node["NodeManagerAddress"]),
            cpus=float(node["Resources"].get("CPU", 0.0)),
            gpus=float(node["Resources"].get("GPU", 0.0)),
            host=str(node["NodeManagerHostname"]),
        )
        for node in ray.nodes()  # type: ignore[no-untyped-call]
        if node["Alive"]
    ]


class ClusterWatch:
    """Asks the cluster whether this machine is alive, in the background; a context manager.

    Args:
        on_hang: Called if the main thread has not left the block some seconds after a fault, as it waits for the
            cluster.

    Attributes:
        nodes: The machines of the cluster that are alive.
        fault: What is wrong with the cluster; None if nothing is.
        is_head_lost: Whether the fault is that of its head, without which Ray ends this process a minute later.
    """

    def __init__(self, *, on_hang: Callable[[], None]) -> None:
        self._on_hang = on_hang
        self._node = str(ray.get_runtime_context().get_node_id())
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=target, name="cluster-watch", daemon=True) for target in (self._ask, self._watch)
        ]
        self._silent_s = 0.0
        self._is_alive = True
        self.nodes = living_nodes()
        self.fault: InfrastructureError | None = None
        self.is_head_lost = False

    def __enter__(self) -> ClusterWatch:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        if self.fault is None:
            for thread in self._threads:
                thread.join(_ANSWER_S)  # what calls Ray while it is left ends the process

    def _ask(self) -> None:
        while not self._over.wait(_EVERY_S):
            try:
                nodes = living_nodes()
            except Exception as error:  # of many kinds, when the servers are gone
                logger.debug("the cluster does not answer: %s", error)
                continue
            self.nodes = nodes
            self._is_alive = any(node.id == self._node for node in nodes)
            self._silent_s = 0.0

    def _watch(self) -> None:
        while not self._over.wait(_LOOK_S):
            self._silent_s += _LOOK_S  # counted, not timed: a stopped process could not hear the answer
            if not self._is_alive:
                what = "the Ray process of this machine (raylet) has ended or hangs"
            elif self._silent_s > _ANSWER_S:
                what = "the Ray cluster does not answer"
                self.is_head_lost = True
            else:
                continue
            self.fault = InfrastructureError(what)
            if not self._over.wait(_LEAVE_S):
                self._on_hang()
            return


def _kill_servers() -> None:
    """Kill the servers of Ray that this process has started, which may hang."""
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and (entry / "comm").read_text(encoding="utf-8").strip() in _SERVERS:
                fields = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()
                if int(fields[1]) == os.getpid():
                    os.kill(int(entry.name), signal.SIGKILL)
        except (OSError, ValueError):
            continue  # it has ended meanwhile


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Collect garbage before the block, and none in it.

    Ray ends the process if a reference to an object of its own is freed in another thread while it is left.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        gc.collect()
        yield
    finally:
        if was_enabled:
            gc.enable()


def shut_down(watch: ClusterWatch, *, is_owner: bool) -> None:
    """Disconnect from Ray, and stop it if this process has started it.

    Raises:
        InfrastructureError: Its head is lost, or it hangs, so this process cannot use Ray any more.
    """
    if watch.fault is None:
        with _no_garbage():
            ray.shutdown()
        return
    if is_owner:
        _kill_servers()
    thread = threading.Thread(target=ray.shutdown, name="ray-shutdown", daemon=True)
    thread.start()
    thread.join(_SHUTDOWN_S)
    if thread.is_alive() or watch.is_head_lost:
        atexit.register(leave)  # before Ray's own, which would hang as well
        raise InfrastructureError("Ray does not answer, and cannot be left")


def leave() -> None:
    """End this process at once, as something in it hangs, so that it is tried again."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(InfrastructureError.exit_code)

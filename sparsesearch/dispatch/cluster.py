"""Start Ray or connect to a cluster."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import ray

from sparsesearch.dispatch.allocation import Node
from sparsesearch.dispatch.cluster_watch import ClusterWatch, leave, shut_down
from sparsesearch.dispatch.temporary import shorten_tmpdir
from sparsesearch.errors import ClusterError, InfrastructureError, one_line

logger = logging.getLogger(__name__)

_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_worker_niceness": "0",  # 15 by default, so that trials would get only idle CPU time
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000",
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_WARN_THRESHOLD_S": "10",
}
_OBJECT_STORE_BYTES = 128 * 2**20  # processes exchange only short texts
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
_CONNECT_SECONDS = 5.0
_NOTICE_SECONDS = 45.0


def only_gpu(device: str, *, address: str | None, environment: Mapping[str, str]) -> dict[str, str]:
    """Environment of a Ray on this machine that is to see a single GPU; empty for any device but `cuda:N`.

    Args:
        device: The device of the study.
        address: Address of a cluster; None for a Ray that is started on this machine.
        environment: The environment of this process.

    Raises:
        ClusterError: The device has a number, which a cluster assigns itself.
    """
    kind, _, index = device.partition(":")
    if not index:
        return {}
    if address is not None:
        raise ClusterError(
            f"--device {device} names a GPU of one machine, but a Ray cluster assigns its GPUs to trials itself; "
            f"use --device {kind}"
        )
    visible = environment.get(_VISIBLE_GPUS)
    return {_VISIBLE_GPUS: index if visible is None else visible.split(",")[int(index)].strip()}


class Cluster:
    """A Ray cluster that this process is connected to."""

    def __init__(self, watch: ClusterWatch) -> None:
        self._watch = watch

    @property
    def nodes(self) -> list[Node]:
        """Its machines, of which some may be lost and others join while a study runs."""
        return self._watch.nodes

    def consists_of(self, nodes: list[Node]) -> bool:
        """Return whether these are its machines still."""
        return self.nodes == nodes

    def fault(self) -> InfrastructureError | None:
        """Return why it cannot be used any more; None as long as it answers."""
        return self._watch.fault

    def fault_behind(self, error: Exception) -> InfrastructureError | None:
        """Return why the cluster cannot be used any more if that is why a call failed; None if it is not.

        Ray's processes notice that another one has gone before it is certain what it means, so this may wait.
        """
        until = time.monotonic() + (_NOTICE_SECONDS if isinstance(error, ray.exceptions.RayError) else 0.0)
        while self.fault() is None and time.monotonic() < until:
            time.sleep(0.5)
        return self.fault()


@contextmanager
def joined(address: str | None, *, device: str = "auto", on_hang: Callable[[], None] = leave) -> Iterator[Cluster]:
    """Connect to a Ray cluster while the block runs, and yield it.

    Args:
        address: Address of a cluster, or None to start Ray on this machine and stop it after the block. If this process
            is already connected to a cluster, that one is used and stays connected.
        device: The device of the study; of `cuda:N`, a Ray that is started here uses that GPU alone.
        on_hang: Called if the cluster no longer answers and the block does not end because of it.

    Raises:
        ClusterError: Ray cannot be started, or the cluster cannot be reached.
        InfrastructureError: It no longer answers, and cannot be left.
    """
    gpu = only_gpu(device, address=address, environment=os.environ)
    with _environment(_ENVIRONMENT), _environment(gpu, replace=True), _quiet():
        is_owner = not ray.is_initialized()
        if is_owner:
            _start(address)
        watch = ClusterWatch(on_hang=on_hang)
        try:
            with watch:
                yield Cluster(watch)
        finally:
            if is_owner:
                shut_down(watch, is_owner=address is None)


def _start(address: str | None) -> None:
    if address not in (None, "auto"):
        _check_reachable(address)
    local = {"include_dashboard": False, "object_store_memory": _OBJECT_STORE_BYTES} if address is None else {}
    shorten_tmpdir()
    on_terminate = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(
            address=address or "local",
            log_to_driver=False,
            logging_level=logging.ERROR,
            **local,  # type: ignore[arg-type]
        )
    except Exception as error:  # Ray raises many types
        what = "start Ray on this machine" if address is None else f"connect to the Ray cluster at {address}"
        raise ClusterError(f"cannot {what} ({one_line(error)}); see docs/ray.md") from error
    finally:
        if callable(on_terminate) and threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, on_terminate)  # Ray sets its own, which exits at once


def _check_reachable(address: str) -> None:
    """Check that the address accepts connections; Ray itself would retry for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"no Ray cluster at {address} ({one_line(error)}); start one with: ray start --head, see docs/ray.md"
        ) from error


@contextmanager
def _environment(values: Mapping[str, str], *, replace: bool = False) -> Iterator[None]:
    """Set environment variables for Ray, by default those that the user has not set, and undo it afterwards."""
    added = {name: value for name, value in values.items() if replace or name not in os.environ}
    before = {name: os.environ[name] for name in added if name in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)
        os.environ.update(before)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence Ray's messages about failed trials and lost processes, which are told in one line.

    Ray would print some of them to standard output, where JSON may be expected.
    """
    loggers = [logging.getLogger(name) for name in ("ray", "ray.tune", "ray.train")]
    levels = [each.level for each in loggers]
    for each in loggers:
        each.setLevel(logging.CRITICAL)
    printed = ray._private.worker.print_to_stdstream
    ray._private.worker.print_to_stdstream = lambda data, **options: logger.debug("Ray: %s", data)
    try:
        yield
    finally:
        ray._private.worker.print_to_stdstream = printed
        for each, level in zip(loggers, levels, strict=True):
            each.setLevel(level)

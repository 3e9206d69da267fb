"""The controller: takes studies from the queue and runs each in a process of its own, several at once."""

from __future__ import annotations

import logging
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sparsesearch.app.workspace import Workspace
from sparsesearch.errors import InfrastructureError, StoreError, StudyNotFoundError, one_line
from sparsesearch.service.delivery import deliver_due
from sparsesearch.service.news import tell_best
from sparsesearch.study.spec import DispatcherName
from sparsesearch.study.submission import Claim

logger = logging.getLogger(__name__)

POLL_S = 1.0
BEAT_S = 10.0
LOOK_S = 5.0
STOP_S = 30.0
EXIT_TEMPORARY = InfrastructureError.exit_code


@dataclass(frozen=True)
class ControllerOptions:
    """The options of `sparsesearch controller`.

    Attributes:
        slots: How many studies run at once.
        results: Folder for the files of finished studies, one folder each; None writes none.
        dispatcher: How trials are executed: `ray`, or `inline` one after the other.
        ray_address: Ray cluster that studies use; None lets each start its own.
        mlflow: Whether studies are logged to MLflow.
        service_url: Address of the pages, to which MLflow's runs lead; empty for none.
        allow_private_webhooks: Whether webhooks may be sent to addresses that are not public.
    """

    slots: int
    results: Path | None = None
    dispatcher: DispatcherName = "ray"
    ray_address: str | None = None
    mlflow: bool = True
    service_url: str = ""
    allow_private_webhooks: bool = False


@dataclass
class _Child:
    study: str
    process: subprocess.Popen[bytes]
    log: Path


class Controller:
    """Runs queued studies until it is told to stop; it then gives those under way back to the queue.

    Several controllers may use one database: each study is taken by one. A study whose process or controller was lost
    is queued again when its lease has ended.

    Args:
        workspace: The database, and where files are.
        options: How it is set up.
        say: Receives a line for each thing that happens.
    """

    def __init__(self, workspace: Workspace, options: ControllerOptions, *, say: Callable[[str], None]) -> None:
        self._workspace = workspace
        self._options = options
        self._say = say
        self._id = f"{platform.node()}-{os.getpid()}-{uuid4().hex[:8]}"
        self._children: list[_Child] = []
        self._stop = threading.Event()
        self._beaten, self._looked = -BEAT_S, -LOOK_S
        self._logs = workspace.settings.home / "logs"

    def stop(self) -> None:
        """Take no more studies, and give those under way back; may be called from a signal handler."""
        self._stop.set()

    def run(self) -> None:
        """Work until `stop` is called. A database that is away is waited for."""
        self._say(f"controller {self._id}: up to {self._options.slots} studies at once; waiting for studies")
        messenger = threading.Thread(target=self._deliver, name="webhooks", daemon=True)
        messenger.start()
        is_away = False
        while not self._stop.is_set():
            try:
                self._step()
            except StoreError as error:
                if not is_away:
                    self._say(f"waiting for the database: {error}")
                is_away = True
                self._stop.wait(LOOK_S)
                continue
            except StudyNotFoundError as error:  # deleted between two looks at it
                self._say(str(error))
                continue
            except OSError as error:
                self._say(f"waiting for this machine: {one_line(error)}")
                self._stop.wait(LOOK_S)
                continue
            if is_away:
                self._say("the database is back")
                is_away = False
            self._stop.wait(POLL_S)
        self._end()

    def _step(self) -> None:
        self._reap()
        now = time.monotonic()
        queue = self._workspace.store.queue
        if now - self._beaten >= BEAT_S:
            self._beat()
            self._beaten = now
        if now - self._looked >= LOOK_S:
            for name in queue.requeue_lost():
                self._say(f"study {name}: its process was lost; it is {self._workspace.store.condition(name).word}")
            tell_best(self._workspace.store)
            self._looked = now
        while len(self._children) < self._options.slots and not self._stop.is_set():
            claim = queue.claim()
            if claim is None:
                break
            self._start(claim)
            self._beat()

    def _start(self, claim: Claim) -> None:
        self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        log = self._logs / f"{claim.study}.log"
        command = [sys.executable, "-m", "sparsesearch.service.child", claim.study]
        with log.open("ab") as file:
            os.chmod(log, 0o600)
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C at a terminal is for the controller, which then tells them
            )
        assert process.stdin is not None
        process.stdin.write(f"{claim.lease}\n".encode())
        process.stdin.flush()  # it stays open: a child whose controller is lost reads its end, and stops
        self._children.append(_Child(claim.study, process, log))
        self._say(f"study {claim.study}: started (process {process.pid}, log {log})")

    def _environment(self) -> Mapping[str, str]:
        settings, options = self._workspace.settings, self._options
        ours = {
            "SPARSESEARCH_DATABASE_URL": settings.database_url,
            "SPARSESEARCH_HOME": str(settings.home),
            "SPARSESEARCH_RESULTS": "" if options.results is None else str(options.results),
            "SPARSESEARCH_DISPATCHER": options.dispatcher,
            "SPARSESEARCH_RAY_ADDRESS": options.ray_address or "",
            "SPARSESEARCH_MLFLOW": "1" if options.mlflow else "",
            "SPARSESEARCH_SERVICE_URL": options.service_url,
        }
        return {**os.environ, **ours}

    def _reap(self) -> None:
        for child in list(self._children):
            code = child.process.poll()
            if code is None:
                continue
            self._children.remove(child)
            if child.process.stdin is not None:
                child.process.stdin.close()
            self._ended(child, code)

    def _ended(self, child: _Child, code: int) -> None:
        store = self._workspace.store
        try:
            if code == EXIT_TEMPORARY:
                store.queue.give_back(child.study, "a fault around it; it is tried again")
            elif code < 0:
                store.queue.requeue_lost()
            state = store.condition(child.study)
        except StudyNotFoundError:
            self._say(f"study {child.study}: ended, and deleted meanwhile")
            return
        reason = "" if state.reason is None else f" ({state.reason})"
        how = "" if code == 0 else f", exit code {code}, log {child.log}"
        self._say(f"study {child.study}: {state.word}{reason}{how}")
        tell_best(store, child.study)
        self._beat()

    def _beat(self) -> None:
        running = [child.study for child in self._children]
        self._workspace.store.controllers.beat(
            self._id, host=platform.node(), pid=os.getpid(), slots=self._options.slots, running=running
        )

    def _deliver(self) -> None:
        while not self._stop.wait(POLL_S):
            try:
                deliver_due(self._workspace.store, allow_private=self._options.allow_private_webhooks)
            except StoreError as error:
                logger.warning("webhooks: %s", error)

    def _end(self) -> None:
        """Tell the processes to stop; those that do not within the time are killed, and their studies queued again."""
        if self._children:
            self._say("stopping; studies under way are saved and go back to the queue")
        for child in self._children:
            child.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for child in self._children:
            try:
                child.process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                self._say(f"study {child.study}: does not stop; killed")
                child.process.kill()
                child.process.wait()
        try:
            self._reap()
            self._workspace.store.controllers.leave(self._id)
        except StoreError as error:
            self._say(f"the database is away: {error}; others take the studies when their leases have ended")


def default_slots() -> int:
    """Studies at once where nobody says: one for each GPU, or for each four cores."""
    import torch

    return torch.cuda.device_count() or max(1, len(os.sched_getaffinity(0)) // 4)

"""Kill workers that show no sign of life, so that Ray notices that they are lost."""

from __future__ import annotations

import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from sparsesearch.dispatch.allocation import Node
from sparsesearch.dispatch.beats import Beat, beats
from sparsesearch.dispatch.on_node import run_on
from sparsesearch.errors import ClusterError, InfrastructureError
from sparsesearch.study.progress import WorkProgress
from sparsesearch.study.trial import Trial
from sparsesearch.text import human_time

logger = logging.getLogger(__name__)

DEFAULT_S = 600.0
_STEPS = 20
_LOOK_S = 2.0
_KILL_S = 10.0


class WorkerWatch:
    """Watches the processes of running trials. Used by the driver's thread.

    A sign of life is an event of the trial, or a change of its progress. Trials that wait behind another one in the
    same process have no file of their own, and are not watched.

    Args:
        folder: Where the processes say which trial they run.
        progress: Returns the progress of the work in all processes.
        timeout_s: Seconds without a sign of life; None for 10 minutes, or 20 steps of the training if that is longer.
        clock: Monotonic clock, in seconds.
    """

    def __init__(
        self,
        folder: Path,
        progress: Callable[[], Sequence[WorkProgress]],
        *,
        timeout_s: float | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._progress = progress
        self._timeout_s = timeout_s
        self._clock = clock
        self._looked_at = float("-inf")
        self._seen: dict[int, tuple[object, float]] = {}
        self._step_s: dict[int, float] = {}

    def look(self, nodes: Sequence[Node], running: Mapping[int, Trial]) -> None:
        """Kill the processes of trials that have shown no sign of life for too long; looks every two seconds.

        Args:
            nodes: The machines of the cluster.
            running: The running trials, by number.
        """
        now = self._clock()
        if now - self._looked_at < _LOOK_S:
            return
        # While this process itself did not run, nothing was seen.
        gap = now - self._looked_at if self._seen else 0.0
        self._looked_at = now
        work = {item.trial: item for item in self._progress() if item.trial is not None}
        processes = beats(self._folder)
        for number, trial in running.items():
            item = work.get(number)
            if item is not None and item.left_s is not None and item.total is not None and item.total > item.done:
                self._step_s[number] = item.left_s / (item.total - item.done)
            own = [beat for beat in processes if (beat.trial, beat.attempt) == (number, trial.attempt)]
            sign = (trial.attempt, len(trial.measurements), trial.checkpoint, item, frozenset(own))
            before = self._seen.get(number)
            if before is None or before[0] != sign:
                self._seen[number] = (sign, now)
            elif gap > 10 * _LOOK_S:
                self._seen[number] = (sign, before[1] + gap)
            elif own and now - before[1] > self._limit_s(number):
                self._seen[number] = (sign, now)
                self._kill(trial, own, nodes, seconds=now - before[1])
        for number in set(self._seen) - set(running):
            del self._seen[number]

    def _limit_s(self, number: int) -> float:
        if self._timeout_s is not None:
            return self._timeout_s
        return max(DEFAULT_S, _STEPS * self._step_s.get(number, 0.0))

    def _kill(self, trial: Trial, processes: Sequence[Beat], nodes: Sequence[Node], *, seconds: float) -> None:
        names = ", ".join(f"{beat.pid} on {beat.host}" for beat in processes)
        logger.warning(
            "trial %d has shown no sign of life for %s; its process is killed (%s)",
            trial.number,
            human_time(seconds),
            names,
        )
        for beat in processes:
            beat.end(self._folder)
            if beat.host == socket.gethostname():
                _kill(beat.pid)
                continue
            for node in (node for node in nodes if node.host == beat.host):
                try:
                    run_on(node, _kill, beat.pid, timeout_s=_KILL_S)
                except (ClusterError, InfrastructureError) as error:
                    logger.warning("%s", error)


def _kill(pid: int) -> None:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return

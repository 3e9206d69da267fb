"""Time calls on one device, interleaved.

Candidates take turns, so that drifts in machine speed affect them equally:

    measured = measure({"dense": lambda: dense(images), "sparse": lambda: sparse(images)}, device=device)
    measured.latencies["sparse"].median_ms

Always store a latency together with its `Conditions`.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from time import perf_counter, process_time
from typing import Protocol

import torch

from sparsesearch.study.latency_record import BUSY_RATIO, NUM_RUNS, Clock, Latency

Work = Callable[[], object]

NUM_WARMUP = 10
MIN_RUNS, MIN_WARMUP = 3, 2
NUM_ATTEMPTS = 2

_WARMUP_FRACTION = 0.25


@dataclass(frozen=True)
class Measured:
    """Result of interleaved timings.

    Attributes:
        latencies: Latencies by name.
        num_attempts: Number of attempts; the one with the least timing noise is reported.
        runs_ms: All timed runs by name; entries with the same index belong to the same round.
    """

    latencies: Mapping[str, Latency]
    num_attempts: int
    runs_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def ratio(self, name: str, *, to: str) -> float:
        """Median over rounds of the ratio of two candidates, which is robust to drifts in machine speed."""
        pairs = zip(self.runs_ms[name], self.runs_ms[to], strict=True)
        return statistics.median(one / other for one, other in pairs)

    @property
    def timing_noise(self) -> float:
        """The largest ratio of a median to its minimum."""
        return max(latency.timing_noise for latency in self.latencies.values())

    @property
    def is_busy(self) -> bool:
        """Whether other processes used the machine, so that the latencies are too large."""
        return self.timing_noise > BUSY_RATIO


class Stopwatch(Protocol):
    """Times one call."""

    def time(self, work: Work) -> float:
        """Milliseconds until all work started by a call is finished."""


class CpuStopwatch:
    """The wall clock."""

    def time(self, work: Work) -> float:
        """As in `Stopwatch`."""
        started = perf_counter()
        work()
        return 1e3 * (perf_counter() - started)


class ProcessorStopwatch:
    """Processor time of all threads of this process, which is less sensitive to other processes."""

    def time(self, work: Work) -> float:
        """As in `Stopwatch`."""
        started = process_time()
        work()
        return 1e3 * (process_time() - started)


class CudaStopwatch:
    """CUDA events on an idle GPU: a call does not wait for previous work, and kernel launches are included.

    Args:
        device: The GPU.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def time(self, work: Work) -> float:
        """As in `Stopwatch`."""
        with torch.cuda.device(self._device):
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
            start.record()
            work()
            end.record()
            torch.cuda.synchronize()
            return float(start.elapsed_time(end))


def stopwatch_for(device: torch.device, clock: Clock = "wall") -> Stopwatch:
    """The stopwatch for calls on a device."""
    if device.type == "cuda":
        return CudaStopwatch(device)
    return CpuStopwatch() if clock == "wall" else ProcessorStopwatch()


def measure(
    candidates: Mapping[str, Work],
    *,
    device: torch.device,
    num_runs: int = NUM_RUNS,
    seconds: float | None = None,
    stopwatch: Stopwatch | None = None,
    on_round: Callable[[], object] = lambda: None,
) -> Measured:
    """Time several calls in turn, in alternating order, after a warm-up.

    If the machine was busy, everything is timed once more, and the attempt with less timing noise is reported.

    Args:
        candidates: Names and calls without arguments, at least one. The caller disables gradients.
        device: Device of the calls.
        num_runs: Timed runs of each candidate.
        seconds: Time limit of an attempt, after which runs are skipped (never the first 3 of each); a quarter of it is
            the limit of the warm-up (at least 2 runs of each). None for no limit.
        stopwatch: Times a call; None for the default of the device.
        on_round: Called after each round, in which every candidate runs once, including those of the warm-up.
    """
    assert candidates, "nothing to time"
    watch = stopwatch or stopwatch_for(device)
    limit_ms = float("inf") if seconds is None else 1e3 * seconds
    _rounds(candidates, watch, NUM_WARMUP, least=MIN_WARMUP, limit_ms=_WARMUP_FRACTION * limit_ms, on_round=on_round)
    memory = {name: working_bytes(work, device=device) for name, work in candidates.items()}
    best: Measured | None = None
    for attempt in range(1, NUM_ATTEMPTS + 1):
        runs_ms = _rounds(candidates, watch, num_runs, least=MIN_RUNS, limit_ms=limit_ms, on_round=on_round)
        latencies = {name: Latency.of(runs, working_bytes=memory[name]) for name, runs in runs_ms.items()}
        made = Measured(latencies, attempt, runs_ms)
        if best is None or made.timing_noise < best.timing_noise:
            best = made
        if not best.is_busy:
            break
    assert best is not None
    return Measured(best.latencies, attempt, best.runs_ms)


def working_bytes(work: Work, *, device: torch.device) -> int | None:
    """Peak device memory of a call in addition to what is already allocated; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize(device)
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device) - before)


def _rounds(
    candidates: Mapping[str, Work],
    watch: Stopwatch,
    num_rounds: int,
    *,
    least: int,
    limit_ms: float,
    on_round: Callable[[], object],
) -> dict[str, list[float]]:
    """Milliseconds of each candidate's runs; the order is reversed in every other round."""
    runs_ms: dict[str, list[float]] = {name: [] for name in candidates}
    names = list(candidates)
    spent_ms = 0.0
    for number in range(max(num_rounds, least)):
        if number >= least and spent_ms >= limit_ms:
            break
        for name in names if number % 2 == 0 else reversed(names):
            runs_ms[name].append(watch.time(candidates[name]))
            spent_ms += runs_ms[name][-1]
        on_round()
    return runs_ms

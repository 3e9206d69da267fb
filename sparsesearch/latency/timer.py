"""Times calls side by side, on one device.

Candidates take turns, so that a machine whose speed drifts treats them alike:

    measured = measure({"dense": lambda: dense(images), "sparse": lambda: sparse(images)}, device=device)
    measured.latencies["sparse"].median_ms

A latency is worth storing only beside its `Conditions`.
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
LEAST_RUNS, LEAST_WARMUP = 3, 2
NUM_ATTEMPTS = 2

_WARMUP_SHARE = 0.25


@dataclass(frozen=True)
class Measured:
    """Candidates that were timed side by side.

    Attributes:
        latencies: By name.
        num_attempts: Attempts that were made; the quietest counts.
        runs_ms: By name, every timed run; entries of one position are of one round.
    """

    latencies: Mapping[str, Latency]
    num_attempts: int
    runs_ms: Mapping[str, Sequence[float]] = field(default_factory=dict)

    def ratio(self, name: str, *, to: str) -> float:
        """Median over rounds of one candidate over another: what is left when the speed of the machine drifts."""
        pairs = zip(self.runs_ms[name], self.runs_ms[to], strict=True)
        return statistics.median(one / other for one, other in pairs)

    @property
    def timing_noise(self) -> float:
        """The largest ratio of a median to its minimum."""
        return max(latency.timing_noise for latency in self.latencies.values())

    @property
    def is_busy(self) -> bool:
        """Whether the machine did other work as well, so that the numbers are too large."""
        return self.timing_noise > BUSY_RATIO


class Stopwatch(Protocol):
    """Times one call."""

    def time(self, work: Work) -> float:
        """Milliseconds until everything is finished that a call sets going."""


class CpuStopwatch:
    """The wall clock."""

    def time(self, work: Work) -> float:
        """As in `Stopwatch`."""
        started = perf_counter()
        work()
        return 1e3 * (perf_counter() - started)


class ProcessorStopwatch:
    """Processor time of all threads of this process: other people's work on the machine disturbs it less."""

    def time(self, work: Work) -> float:
        """As in `Stopwatch`."""
        started = process_time()
        work()
        return 1e3 * (process_time() - started)


class CudaStopwatch:
    """Events on an idle GPU, so that a call waits for no work before it, and launching its kernels counts.

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
    """What times calls on a device."""
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

    On a machine that turns out to be busy all is timed once more, and the quieter attempt counts.

    Args:
        candidates: Name to a call without arguments, one at least. Gradients are the caller's to turn off.
        device: Where the calls compute.
        num_runs: Timed runs of each.
        seconds: Time for an attempt, after which runs are left out (never the first 3 of each); a quarter of it is
            for the warm-up (never less than 2 runs of each). None for no limit.
        stopwatch: What times a call; that of the device if not given.
        on_round: Called after each round, in which every candidate ran once; also in the warm-up.
    """
    assert candidates, "nothing to time"
    watch = stopwatch or stopwatch_for(device)
    limit_ms = float("inf") if seconds is None else 1e3 * seconds
    _rounds(candidates, watch, NUM_WARMUP, least=LEAST_WARMUP, limit_ms=_WARMUP_SHARE * limit_ms, on_round=on_round)
    memory = {name: working_bytes(work, device=device) for name, work in candidates.items()}
    best: Measured | None = None
    for attempt in range(1, NUM_ATTEMPTS + 1):
        runs_ms = _rounds(candidates, watch, num_runs, least=LEAST_RUNS, limit_ms=limit_ms, on_round=on_round)
        latencies = {name: Latency.of(runs, working_bytes=memory[name]) for name, runs in runs_ms.items()}
        made = Measured(latencies, attempt, runs_ms)
        if best is None or made.timing_noise < best.timing_noise:
            best = made
        if not best.is_busy:
            break
    assert best is not None
    return Measured(best.latencies, attempt, best.runs_ms)


def working_bytes(work: Work, *, device: torch.device) -> int | None:
    """Most device memory that a call takes besides what lies there already; None on a CPU."""
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
    """Milliseconds of each candidate's runs; every other round goes backwards, so that nobody is always first."""
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

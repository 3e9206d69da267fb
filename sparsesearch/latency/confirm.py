"""Measure the latency of schedules on the target machine."""

from __future__ import annotations

from collections.abc import Mapping
from time import monotonic

import torch

from sparsesearch.backbones.registry import geometry, resolve_name
from sparsesearch.latency.device import torch_threads
from sparsesearch.latency.groups import (
    DENSE,
    GROUP,
    MEASURE_FACTOR,
    OnPercent,
    PercentCounter,
    ignore_percent,
    time_group,
)
from sparsesearch.latency.profile.design import Planned
from sparsesearch.latency.target import Target
from sparsesearch.schedule import Schedule
from sparsesearch.study.latency_record import NUM_RUNS, ConfirmedLatency


def confirm(
    target: Target,
    schedules: Mapping[str, Schedule],
    *,
    reference_ms: float | None = None,
    seconds: float | None = None,
    runs: int = NUM_RUNS,
    threads: int | None = None,
    on_percent: OnPercent = ignore_percent,
) -> dict[str, ConfirmedLatency]:
    """Measure the latency of schedules, interleaved with the dense model.

    Args:
        target: Backbone, device and conditions.
        schedules: Schedules by name.
        reference_ms: Dense latency at the time the device was profiled.
        seconds: Approximate time limit; at least three runs of each schedule are made.
        runs: Timed runs of each schedule.
        threads: CPU threads of torch, None for its default.
        on_percent: Called with the percentage done since the last call.

    Raises:
        ProfileError: The model does not fit into the memory of the device.
        ScheduleError: A schedule does not fit the backbone.
    """
    found: dict[str, ConfirmedLatency] = {}
    names = list(schedules)
    started = monotonic()
    with torch_threads(threads), torch.inference_mode():
        dense = target.dense_model()
        shape = geometry(dense, resolve_name(target.backbone))
        images = target.images(dense, shape)
        conditions = target.conditions()
        steps = PercentCounter(2 * len(names), on_percent)
        for start in range(0, len(names), GROUP):
            group = names[start : start + GROUP]
            left = None if seconds is None else max(seconds - (monotonic() - started), 1.0)
            num_groups = -(-(len(names) - start) // GROUP)
            measured = time_group(
                target,
                dense,
                [Planned("whole", schedules[name]) for name in group],
                images=images,
                shape=shape,
                runs=runs,
                seconds=None if left is None else left / num_groups / MEASURE_FACTOR,
                on_ready=steps.advance,
            )
            for number, name in enumerate(group):
                found[name] = ConfirmedLatency(
                    conditions=conditions,
                    latency=measured.latencies[str(number)],
                    dense=measured.latencies[DENSE],
                    ratio=measured.ratio(str(number), to=DENSE),
                    reference_ms=reference_ms,
                )
            steps.advance(len(group))
    return found

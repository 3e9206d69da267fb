"""Measure a latency profile on this machine."""

from __future__ import annotations

from collections.abc import Sequence
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
    can_run,
    ignore_percent,
    time_group,
)
from sparsesearch.latency.profile.design import NUM_HELD_OUT, NUM_WHOLES, design, profiled_stages
from sparsesearch.latency.profile.document import Profile, Timing
from sparsesearch.latency.profile.fit import fit_profile
from sparsesearch.latency.profile.profiled_methods import default_methods
from sparsesearch.latency.target import Target
from sparsesearch.space.shape import Method
from sparsesearch.study.latency_record import NUM_RUNS, Latency

SECONDS = 600.0
_MIN_TIMINGS = 24


def profile_backbone(
    target: Target,
    *,
    methods: Sequence[Method] | None = None,
    stages: Sequence[int] | None = None,
    num_wholes: int = NUM_WHOLES,
    num_held_out: int = NUM_HELD_OUT,
    seconds: float | None = SECONDS,
    runs: int = NUM_RUNS,
    threads: int | None = None,
    seed: int = 0,
    on_percent: OnPercent = ignore_percent,
) -> Profile:
    """Measure and fit a profile.

    Args:
        target: Backbone, device and conditions.
        methods: Methods of the schedules; `default_methods` if not given.
        stages: Stages of their steps; `profiled_stages` if not given.
        num_wholes: Random schedules to fit on.
        num_held_out: Random schedules to hold out.
        seconds: Approximate time limit, None for no limit; the minimum required for a profile is always measured.
        runs: Timed runs of each schedule.
        threads: CPU threads of torch, None for its default.
        seed: Seed of the random schedules.
        on_percent: Called with the percentage done since the last call.

    Raises:
        BackboneError: The backbone is unknown or unsupported.
        ScheduleError: No method is possible.
        ProfileError: The model does not fit into the memory of the device, or there are too few measurements.
    """
    started = monotonic()
    with torch_threads(threads), torch.inference_mode():
        dense = target.dense_model()
        shape = geometry(dense, resolve_name(target.backbone))
        able = tuple(default_methods(shape) if methods is None else methods)
        where = tuple(profiled_stages(shape) if stages is None else stages)
        planned = design(shape, able, stages=where, num_wholes=num_wholes, num_held_out=num_held_out, seed=seed)
        planned = [one for one in planned if can_run(dense, one)]
        groups = [planned[start : start + GROUP] for start in range(0, len(planned), GROUP)]
        images = target.images(dense, shape)
        anchors: list[Latency] = []
        timings: list[Timing] = []
        steps = PercentCounter(2 * len(planned), on_percent)
        for index, group in enumerate(groups):
            left = None if seconds is None else seconds - (monotonic() - started)
            if left is not None and left <= 0 and len(timings) >= _MIN_TIMINGS:
                break
            limit = None if left is None else max(left, 1.0) / (len(groups) - index) / MEASURE_FACTOR
            measured = time_group(
                target, dense, group, images=images, shape=shape, runs=runs, seconds=limit, on_ready=steps.advance
            )
            anchors.append(measured.latencies[DENSE])
            timings += [
                Timing(
                    role=one.role,
                    schedule=one.schedule.canonical(shape),
                    num_tokens=one.num_tokens,
                    group=index,
                    latency=measured.latencies[str(number)],
                    ratio=measured.ratio(str(number), to=DENSE),
                )
                for number, one in enumerate(group)
            ]
            steps.advance(len(group))
        steps.finish()
        conditions = target.conditions()
    fitted = fit_profile(shape, conditions, anchors=anchors, timings=timings)
    return Profile(
        geometry=shape,
        methods=able,
        stages=where,
        conditions=conditions,
        anchors=tuple(anchors),
        timings=tuple(timings),
        num_planned=len(planned),
        seconds=monotonic() - started,
        slowness=fitted.slowness,
        fit=fitted.fit,
    )

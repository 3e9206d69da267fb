"""Made-up devices: latencies from formulas, in the form of real profiles, without torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from sparsesearch.cost.latency_model import LatencyModel
from sparsesearch.latency.profile.design import design, profiled_stages
from sparsesearch.latency.profile.document import Profile, Timing
from sparsesearch.latency.profile.fit import fit_profile
from sparsesearch.latency.profile.latency_fitting import TILES
from sparsesearch.latency.profile.profiled_methods import default_methods
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.shape import Method
from sparsesearch.study.latency_fit import Curve, HeldOutError, LatencyFit, shape_of_stages
from sparsesearch.study.latency_record import Conditions, ConfirmedLatency, Latency

CONDITIONS = Conditions(
    device="cuda",
    device_name="Made-up GPU",
    precision="bfloat16",
    batch_size=64,
    compiled=True,
    memory_format="contiguous",
    num_threads=1,
    torch="2.9",
    timm="1.0",
)
GUESS = HeldOutError(num_schedules=12, mean=0.01, worst=0.03, bias=0.0, margin=0.02)
TILE = 16


def made_up_fit(
    geometry: BackboneGeometry, *, methods: Sequence[Method] | None = None, margin: float = 0.02, tile: int = TILE
) -> LatencyFit:
    """A device that works in tiles: blocks cost steps of so many tokens, and choosing tokens costs something too."""
    curves = {"everything else": Curve(constant=0.4)}
    for index, stage in enumerate(geometry.stages):
        offset, name = stage.num_prefix_tokens, f"stage {index}"
        curves[f"{name} attention"] = Curve(offset=offset, steps=((tile, 0.012),), quadratic=1e-7)
        curves[f"{name} mlp"] = Curve(offset=offset, steps=((tile, 0.02),))
        curves[f"{name} weigh"] = Curve(offset=offset, linear=1e-5)
        curves[f"{name} dense block"] = Curve(constant=0.3)
        for path in ("linear", "identity", "bottleneck"):
            curves[f"{name} {path} block"] = Curve(constant=0.05, steps=((tile, 0.02),))
    known = _parts(geometry, default_methods(geometry) if methods is None else methods)
    for number, name in enumerate(sorted(known - curves.keys())):
        curves[name] = Curve(constant=0.01 + 0.001 * number, linear=1e-5)
    return LatencyFit(
        backbone=geometry.name,
        shape=shape_of_stages(geometry),
        conditions=CONDITIONS,
        dense_ms=LatencyModel(_fit_of(geometry, curves)).tables(geometry, ()).base,
        curves=curves,
        error=GUESS.model_copy(update={"margin": margin}),
    )


def made_up_profile(
    geometry: BackboneGeometry,
    truth: LatencyFit,
    *,
    noise: float = 0.0,
    speed: Callable[[int], float] = lambda group: 1.0,
    seed: int = 0,
) -> Profile:
    """What profiling a made-up device would give, its speed changing from group to group."""
    model = LatencyModel(truth)
    rng = np.random.default_rng(seed)
    methods = default_methods(geometry)
    planned = design(geometry, methods)
    timings, anchors = [], []
    for number, one in enumerate(planned):
        group = number // 6
        if group == len(anchors):
            anchors.append(latency(truth.dense_ms * speed(group)))
        if one.num_tokens is None:
            ms = model.predict(geometry, one.schedule)
        else:
            depth = geometry.stages[0].depth
            ms = 0.1 + depth * float(truth.curves["stage 0 mlp"].values(one.num_tokens)[-1])
        ratio = ms / truth.dense_ms * float(np.exp(rng.normal(0.0, noise)))
        timings.append(
            Timing(
                role=one.role,
                schedule=one.schedule,
                num_tokens=one.num_tokens,
                group=group,
                latency=latency(ratio * truth.dense_ms * speed(group)),
                ratio=ratio,
            )
        )
    fitted = fit_profile(geometry, CONDITIONS, anchors=anchors, timings=timings)
    return Profile(
        geometry=geometry,
        methods=methods,
        stages=profiled_stages(geometry),
        conditions=CONDITIONS,
        anchors=tuple(anchors),
        timings=tuple(timings),
        num_planned=len(planned),
        seconds=1.0,
        slowness=fitted.slowness,
        fit=fitted.fit,
    )


def latency(ms: float) -> Latency:
    """Runs that all take the same time."""
    return Latency.of([ms] * 3)


def made_up_confirmation(
    ms: float = 2.0, *, dense_ms: float = 4.0, reference_ms: float | None = None
) -> ConfirmedLatency:
    """A confirmed latency."""
    return ConfirmedLatency(
        conditions=CONDITIONS,
        latency=latency(ms),
        dense=latency(dense_ms),
        ratio=ms / dense_ms,
        reference_ms=reference_ms,
    )


def _parts(geometry: BackboneGeometry, methods: Sequence[Method]) -> set[str]:
    """Every part that a design over methods touches."""
    from sparsesearch.cost.latency_model import uses

    found: set[str] = set()
    for one in design(geometry, methods, num_wholes=8):
        found |= {use.curve for use in uses(geometry, one.schedule.resolve(geometry))}
    return found


def _fit_of(geometry: BackboneGeometry, curves: dict[str, Curve]) -> LatencyFit:
    return LatencyFit(
        backbone=geometry.name,
        shape=shape_of_stages(geometry),
        conditions=CONDITIONS,
        dense_ms=1.0,
        curves=curves,
        error=GUESS,
    )


assert TILE in TILES

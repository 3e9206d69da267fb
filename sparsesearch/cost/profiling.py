"""Measures a latency profile on this machine.

Schedules are timed in small groups that take turns, with the dense model in every one. What a schedule takes is its
ratio to the dense model in the same rounds, so that a machine whose speed drifts does not bend the picture.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch
from torch import Tensor, nn

from sparsesearch.backbones.registry import create_model, geometry, resolve_name
from sparsesearch.backbones.sparsity import sparsity_of
from sparsesearch.backbones.verbs import family_of, sparsify_
from sparsesearch.cost.device import conditions_here, torch_threads
from sparsesearch.cost.latency import Measured, Work, measure, stopwatch_for
from sparsesearch.cost.profile_design import NUM_HELD_OUT, NUM_WHOLES, Planned, design, profiled_stages
from sparsesearch.cost.profile_document import Profile, Timing
from sparsesearch.cost.profile_fit import fit_profile
from sparsesearch.cost.profile_methods import usual_methods
from sparsesearch.errors import ProfileError, ScheduleError
from sparsesearch.geometry import BackboneGeometry
from sparsesearch.latency_record import NUM_RUNS, Clock, Conditions, ConfirmedLatency, Latency, PrecisionName
from sparsesearch.schedule import Schedule
from sparsesearch.space.shape import Method

DENSE = "dense"
GROUP = 6
SECONDS = 600.0
_LEAST_TIMINGS = 24
_MEASURE_FACTOR = 2.25
"""`measure` takes at most so many times its limit: a warm-up, and a second attempt on a busy machine."""

OnPercent = Callable[[int], object]
"""Called with how many percent of the work have been done since the last call."""


def _nothing(percent: int) -> None:
    return


@dataclass(frozen=True, kw_only=True)
class Bed:
    """A backbone on a device, ready for its schedules to be timed.

    Attributes:
        backbone: Resolved backbone name.
        device: Where.
        batch_size: Images of one call.
        precision: Type of weights and images.
        compiled: Run through `torch.compile`.
        channels_last: Images and convolutions in that memory format.
        image_size: Pixels, None for the backbone's own.
        num_classes: Of the head, None for the backbone's own.
        in_chans: Image channels, None for the backbone's own.
        clock: What is timed; a GPU has its own.
    """

    backbone: str
    device: torch.device
    batch_size: int = 1
    precision: PrecisionName = "float32"
    compiled: bool = False
    channels_last: bool = False
    image_size: int | tuple[int, int] | None = None
    num_classes: int | None = None
    in_chans: int | None = None
    clock: Clock = "wall"

    def conditions(self) -> Conditions:
        """The conditions of what is timed here and now."""
        return conditions_here(
            self.device,
            precision=self.precision,
            batch_size=self.batch_size,
            compiled=self.compiled,
            memory_format="channels_last" if self.channels_last else "contiguous",
            clock=self.clock,
        )

    def geometry(self) -> BackboneGeometry:
        """The backbone's shape; no weights are made."""
        with torch.device("meta"):
            return geometry(self._make(), resolve_name(self.backbone))

    def dense_model(self) -> nn.Module:
        """The dense model with random weights, in place."""
        model = self._make().eval().requires_grad_(False).to(device=self.device, dtype=self._dtype)
        return model.to(memory_format=torch.channels_last) if self.channels_last else model

    def images(self, model: nn.Module, shape: BackboneGeometry) -> Tensor:
        """A batch of noise."""
        channels = next(module.in_channels for module in model.modules() if isinstance(module, nn.Conv2d))
        return self.noise(self.batch_size, channels, *shape.image_size)

    def noise(self, *size: int) -> Tensor:
        """Noise of a size, in place."""
        made = torch.randn(size, generator=torch.Generator().manual_seed(0)).to(self.device, self._dtype)
        return made.to(memory_format=torch.channels_last) if self.channels_last and len(size) == 4 else made

    def _make(self) -> nn.Module:
        return create_model(
            self.backbone, num_classes=self.num_classes, in_chans=self.in_chans, image_size=self.image_size
        )

    @property
    def _dtype(self) -> torch.dtype:
        found: torch.dtype = getattr(torch, self.precision)
        return found


def profile_backbone(
    bed: Bed,
    *,
    methods: Sequence[Method] | None = None,
    stages: Sequence[int] | None = None,
    num_wholes: int = NUM_WHOLES,
    num_held_out: int = NUM_HELD_OUT,
    seconds: float | None = SECONDS,
    runs: int = NUM_RUNS,
    threads: int | None = None,
    seed: int = 0,
    on_percent: OnPercent = _nothing,
) -> Profile:
    """Measure and fit a profile.

    Args:
        bed: The backbone and how it runs.
        methods: What schedules may do; `usual_methods` if not given.
        stages: Where; `profiled_stages` if not given.
        num_wholes: Random schedules to fit on.
        num_held_out: Random schedules to hold out.
        seconds: About how long it may take, None for as long as it takes; the least that makes a profile is measured
            in any case.
        runs: Timed runs of each.
        threads: Threads of torch on the CPU, None for its own choice.
        seed: Seed of the random schedules.
        on_percent: Told what has been done; it adds up to 100.

    Raises:
        BackboneError: The backbone is unknown or unsupported.
        ScheduleError: No method can be carried out.
        ProfileError: It does not fit into the memory of the device, or too little could be measured.
    """
    started = monotonic()
    with torch_threads(threads), torch.inference_mode():
        dense = bed.dense_model()
        shape = geometry(dense, resolve_name(bed.backbone))
        able = tuple(usual_methods(shape) if methods is None else methods)
        where = tuple(profiled_stages(shape) if stages is None else stages)
        planned = design(shape, able, stages=where, num_wholes=num_wholes, num_held_out=num_held_out, seed=seed)
        planned = [one for one in planned if _can_run(dense, one)]
        groups = [planned[start : start + GROUP] for start in range(0, len(planned), GROUP)]
        images = bed.images(dense, shape)
        anchors: list[Latency] = []
        timings: list[Timing] = []
        steps = _Steps(2 * len(planned), on_percent)
        for index, group in enumerate(groups):
            left = None if seconds is None else seconds - (monotonic() - started)
            if left is not None and left <= 0 and len(timings) >= _LEAST_TIMINGS:
                break
            limit = None if left is None else max(left, 1.0) / (len(groups) - index) / _MEASURE_FACTOR
            measured = _time_group(
                bed, dense, group, images=images, shape=shape, runs=runs, seconds=limit, on_ready=steps.advance
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
        conditions = bed.conditions()
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


def confirm(
    bed: Bed,
    schedules: Mapping[str, Schedule],
    *,
    reference_ms: float | None = None,
    seconds: float | None = None,
    runs: int = NUM_RUNS,
    threads: int | None = None,
    on_percent: OnPercent = _nothing,
) -> dict[str, ConfirmedLatency]:
    """Measure schedules for certain, in turn with the dense model.

    Args:
        bed: The backbone and how it runs.
        schedules: By name.
        reference_ms: Dense latency when the device was profiled.
        seconds: About how long it may take; at least three runs of each are made.
        runs: Timed runs of each.
        threads: Threads of torch on the CPU, None for its own choice.
        on_percent: Told what has been done; it adds up to 100.

    Raises:
        ProfileError: It does not fit into the memory of the device.
        ScheduleError: A schedule does not fit the backbone.
    """
    found: dict[str, ConfirmedLatency] = {}
    names = list(schedules)
    started = monotonic()
    with torch_threads(threads), torch.inference_mode():
        dense = bed.dense_model()
        shape = geometry(dense, resolve_name(bed.backbone))
        images = bed.images(dense, shape)
        conditions = bed.conditions()
        steps = _Steps(2 * len(names), on_percent)
        for start in range(0, len(names), GROUP):
            group = names[start : start + GROUP]
            left = None if seconds is None else max(seconds - (monotonic() - started), 1.0)
            num_groups = -(-(len(names) - start) // GROUP)
            measured = _time_group(
                bed,
                dense,
                [Planned("whole", schedules[name]) for name in group],
                images=images,
                shape=shape,
                runs=runs,
                seconds=None if left is None else left / num_groups / _MEASURE_FACTOR,
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


class _Steps:
    """Tells percents; each schedule has two steps, one until it has run for the first time, compiled by then."""

    def __init__(self, total: int, on_percent: OnPercent) -> None:
        self._done, self._told, self._total, self._on_percent = 0, 0, total, on_percent

    def advance(self, steps: int = 1) -> None:
        """So many more are done."""
        self._done += steps
        percent = 100 * self._done // self._total
        self._on_percent(percent - self._told)
        self._told = percent

    def finish(self) -> None:
        """What is left is not done, as there is no time."""
        self.advance(self._total - self._done)


def _time_group(
    bed: Bed,
    dense: nn.Module,
    group: Sequence[Planned],
    *,
    images: Tensor,
    shape: BackboneGeometry,
    runs: int,
    seconds: float | None,
    on_ready: Callable[[], object],
) -> Measured:
    """The dense model and a few others side by side; compiled anew, so that no shape is dynamic.

    `on_ready` is called when one of the others has run for the first time.
    """
    if bed.compiled:
        torch.compiler.reset()

    def ready(call: Any) -> Any:
        return torch.compile(call, dynamic=False) if bed.compiled else call

    def work_of(call: Any, x: Tensor) -> Work:
        return lambda: call(x)

    works: dict[str, Work] = {DENSE: work_of(ready(dense), images)}
    try:
        for number, one in enumerate(group):
            if one.num_tokens is None:
                works[str(number)] = work_of(ready(_sparse(dense, one.schedule)), images)
            else:
                stage = shape.stages[0]
                x_BTC = bed.noise(bed.batch_size, one.num_tokens + stage.num_prefix_tokens, stage.dim)
                works[str(number)] = work_of(ready(_FeedForwards(dense)), x_BTC)
            works[str(number)]()
            on_ready()
        return measure(
            works, device=bed.device, num_runs=runs, seconds=seconds, stopwatch=stopwatch_for(bed.device, bed.clock)
        )
    except torch.OutOfMemoryError as error:
        raise ProfileError(
            f"{shape.name} does not fit into the memory of {bed.device} at batch size {bed.batch_size}; "
            "give a smaller --batch-size"
        ) from error


def _sparse(dense: nn.Module, schedule: Schedule) -> nn.Module:
    """A sparse model that shares the weights of the dense one, so that dozens of them find room."""
    shared = {id(tensor): tensor for tensor in (*dense.parameters(), *dense.buffers())}
    model = copy.deepcopy(dense, shared)
    sparsify_(model, schedule)
    sparsity_of(model).state.record = False
    return model


class _FeedForwards(nn.Module):
    """The feed-forward networks of all blocks behind each other, as residual branches."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.blocks = _plain_blocks(model)

    def forward(self, x_BTC: Tensor) -> Tensor:
        """Tokens in, tokens out."""
        for block in self.blocks:
            x_BTC = x_BTC + block.mlp(block.norm2(x_BTC))
        return x_BTC


def _plain_blocks(model: nn.Module) -> list[Any]:
    """The blocks, or nothing if they are not two residual branches with known names."""
    family = family_of(model)
    blocks: list[Any] = [family.block(model, stage, block) for stage, block in family.blocks(model)]
    return blocks if all(hasattr(block, "norm2") and hasattr(block, "mlp") for block in blocks) else []


def _can_run(dense: nn.Module, one: Planned) -> bool:
    """Whether this very model can: blocks of unusual kinds cannot be cut in the middle, or have unknown attention."""
    if one.role == "part":
        return bool(_plain_blocks(dense))
    family = family_of(dense)
    try:
        for step in one.schedule.resolve(family.token_geometry(dense)):
            family.check_step(dense, step)
    except ScheduleError:
        return False
    return True

"""Options of `profile`: each field of `ProfilePlan` is an option of the command."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.backbones.registry import resolve_name
from sparsesearch.errors import SpecError
from sparsesearch.latency.command_options import check_positive, image_size_argument, option
from sparsesearch.latency.device import open_device
from sparsesearch.latency.groups import OnPercent, ignore_percent
from sparsesearch.latency.profile.design import NUM_HELD_OUT, NUM_WHOLES
from sparsesearch.latency.profile.document import Profile
from sparsesearch.latency.profile.profiled_methods import all_methods, default_methods
from sparsesearch.latency.profile.profiling import SECONDS, profile_backbone
from sparsesearch.latency.target import Ready, Target
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.shape import Method
from sparsesearch.study.latency_record import NUM_RUNS, Clock, parse_precision, parse_runtime

_METHODS = {"default": default_methods, "all": all_methods}


@dataclass(frozen=True, kw_only=True)
class ProfilePlan:
    """Options of a profile.

    Attributes:
        backbone: Backbone name.
        device: `auto`, `cpu` or `cuda[:N]`.
        batch_size: Images per call.
        precision: `float32`, `bfloat16` or `float16`, or an abbreviation.
        compile: Whether to use `torch.compile`.
        channels_last: Whether images and convolutions use that memory format.
        threads: CPU threads of torch, None for its default.
        image_size: Pixels, None for the default of the backbone.
        methods: `default` for those of the papers, `all` for every reduction with every scorer.
        schedules: Number of random schedules to fit on.
        held_out: Number of random schedules to estimate the error on.
        runs: Timed runs of each schedule.
        seconds: Approximate time limit.
        clock: `wall` or `cpu`.
        runtime: `torch`, `onnx`, `aoti` or `cuda-graph`.
    """

    backbone: str = option("deit_s", "deit_t, deit_s, deit_b, deit_pico, or any supported timm model.")
    device: str = option("auto", "auto, cpu or cuda[:N].")
    batch_size: int = option(1, "Images per call.")
    precision: str = option("float32", "Data type of weights and images: float32, bf16 or fp16.")
    compile: bool = option(False, "Use torch.compile for all models; most of the time is then spent compiling.")
    channels_last: bool = option(False, "Use the channels-last memory format for images and convolutions.")
    threads: int | None = option(None, "CPU threads of torch. [default: that of torch]")
    image_size: int | tuple[int, int] | None = option(
        None, "Pixels: 224, or height x width, 256x192. [default: the backbone's]", parse=image_size_argument
    )
    methods: str = option("default", "default: the methods of the papers. all: every reduction with every scorer.")
    schedules: int = option(NUM_WHOLES, "Random schedules to fit on, in addition to the grid of counts.")
    held_out: int = option(NUM_HELD_OUT, "Random schedules held out to estimate the error.")
    runs: int = option(NUM_RUNS, "Timed runs of each schedule.")
    seconds: float = option(SECONDS, "Approximate time limit; with less time the profile is coarser.")
    clock: str = option("wall", "wall, or cpu (processor time) for tests on a busy machine, not for budgets.")
    runtime: str = option("torch", "torch, or cuda-graph; `sparsesearch profile` also has onnx and aoti.")

    def __post_init__(self) -> None:
        parse_precision(self.precision)
        parse_runtime(self.runtime)
        check_positive(self, "batch_size", "threads", "schedules", "held_out", "runs", "seconds")
        if self.methods not in _METHODS:
            raise SpecError(f"invalid --methods {self.methods!r}; choose default or all")
        if self.clock not in ("wall", "cpu"):
            raise SpecError(f"invalid --clock {self.clock!r}; choose wall or cpu")

    def target(self, *, ready: Ready | None = None) -> Target:
        """The backbone on its device.

        Args:
            ready: Makes models ready to be timed in a runtime that is not a part of torch.

        Raises:
            BackboneError: The backbone is unknown.
            SpecError: The device does not exist.
        """
        clock: Clock = "cpu" if self.clock == "cpu" else "wall"
        return Target(
            backbone=resolve_name(self.backbone),
            device=open_device(self.device),
            batch_size=self.batch_size,
            precision=parse_precision(self.precision),
            compiled=self.compile,
            channels_last=self.channels_last,
            image_size=self.image_size,
            clock=clock,
            runtime=parse_runtime(self.runtime),
            ready=ready,
        )


def run_plan(plan: ProfilePlan, *, ready: Ready | None = None, on_percent: OnPercent = ignore_percent) -> Profile:
    """Measure a profile with the options of a plan.

    Args:
        plan: Options of the profile.
        ready: Makes models ready to be timed in a runtime that is not a part of torch.
        on_percent: Called with the percentage done since the last call.

    Raises:
        UserInputError: The plan cannot be executed; see `profile_backbone`.
    """
    target = plan.target(ready=ready)
    return profile_backbone(
        target,
        methods=methods_of(plan.methods, target.geometry()),
        num_wholes=plan.schedules,
        num_held_out=plan.held_out,
        seconds=plan.seconds,
        runs=plan.runs,
        threads=plan.threads,
        on_percent=on_percent,
    )


def methods_of(name: str, geometry: BackboneGeometry) -> tuple[Method, ...]:
    """The methods selected by `--methods`."""
    return _METHODS[name](geometry)

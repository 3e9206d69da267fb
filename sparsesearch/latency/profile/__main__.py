"""Latency profiles: `python -m sparsesearch.latency.profile` needs torch, timm and pydantic alone.

`sparsesearch profile` is the same command where all is installed. Each field of `ProfilePlan` is an option of both.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from sparsesearch.backbones.registry import resolve_name
from sparsesearch.errors import SparseSearchError, SpecError
from sparsesearch.latency.device import open_device
from sparsesearch.latency.groups import OnPercent, tell_nobody
from sparsesearch.latency.profile.design import NUM_HELD_OUT, NUM_WHOLES
from sparsesearch.latency.profile.document import Profile, write_profile
from sparsesearch.latency.profile.profiled_methods import all_methods, usual_methods
from sparsesearch.latency.profile.profiling import SECONDS, profile_backbone
from sparsesearch.latency.target import Target
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.space.shape import Method
from sparsesearch.study.latency_record import NUM_RUNS, Clock, parse_precision

_METHODS = {"usual": usual_methods, "all": all_methods}


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class ProfilePlan:
    """What to profile and how.

    Attributes:
        backbone: Backbone name.
        device: `auto`, `cpu` or `cuda[:N]`.
        batch_size: Images of one call.
        precision: `float32`, `bfloat16` or `float16`, or short.
        compile: Run models through `torch.compile`.
        channels_last: Give images and convolutions that memory format.
        threads: Threads of torch on the CPU, None for its own choice.
        image_size: Pixels, None for the backbone's own.
        methods: `usual` for those of the papers, `all` for every reduction with every score.
        schedules: Random schedules to fit on.
        held_out: Random schedules that tell the error.
        runs: Timed runs of each.
        seconds: About how long it may take.
        clock: `wall` or `cpu`.
    """

    backbone: str = _option("deit_s", "deit_t, deit_s, deit_b, deit_pico, or any supported timm model.")
    device: str = _option("auto", "auto, cpu or cuda[:N].")
    batch_size: int = _option(1, "Images of one call.")
    precision: str = _option("float32", "float32, bf16 or fp16: type of weights and images.")
    compile: bool = _option(False, "Run all models through torch.compile; compiling takes most of the time then.")
    channels_last: bool = _option(False, "Images and convolutions in that memory format.")
    threads: int | None = _option(None, "Threads of torch on the CPU. [default: torch's own]")
    image_size: int | None = _option(None, "Pixels. [default: the backbone's own]")
    methods: str = _option("usual", "usual: what the papers do. all: every reduction with every score.")
    schedules: int = _option(NUM_WHOLES, "Random schedules to fit on, besides the grid of counts.")
    held_out: int = _option(NUM_HELD_OUT, "Random schedules that are held out to tell the error.")
    runs: int = _option(NUM_RUNS, "Timed runs of each schedule.")
    seconds: float = _option(SECONDS, "About how long it may take; a short time leaves a coarser profile.")
    clock: str = _option("wall", "wall, or cpu: processor time, for a trial on a busy machine; serves no budget.")

    def __post_init__(self) -> None:
        parse_precision(self.precision)
        for name in ("batch_size", "threads", "image_size", "schedules", "held_out", "runs", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SpecError(f"--{name.replace('_', '-')} {value:g} is none; give a positive number")
        if self.methods not in _METHODS:
            raise SpecError(f"--methods {self.methods!r} is none; say usual or all")
        if self.clock not in ("wall", "cpu"):
            raise SpecError(f"--clock {self.clock!r} is none; say wall or cpu")

    @property
    def target(self) -> Target:
        """The backbone on its device.

        Raises:
            BackboneError: The backbone is unknown.
            SpecError: There is no such device.
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
        )


def run_plan(plan: ProfilePlan, *, on_percent: OnPercent = tell_nobody) -> Profile:
    """Measure what a plan says.

    Args:
        plan: What to profile and how.
        on_percent: Told what has been done; it adds up to 100.

    Raises:
        UserInputError: The plan cannot be carried out; see `profile_backbone`.
    """
    target = plan.target
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
    """The methods that `--methods` names."""
    return _METHODS[name](geometry)


def help_of(name: str) -> str:
    """What an option means."""
    return next(str(one.metadata["help"]) for one in fields(ProfilePlan) if one.name == name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it: exit code 0, 1 (failure) or 2 (bad input)."""
    options = vars(_parser().parse_args(arguments))
    output, as_json, quiet = options.pop("output"), options.pop("json"), options.pop("quiet")

    shown = 0

    def tell(percent: int) -> None:
        nonlocal shown
        shown += percent
        if not quiet:
            sys.stderr.write(f"\rmeasured {shown} %")
            sys.stderr.flush()

    try:
        profile = run_plan(ProfilePlan(**options), on_percent=tell)
        if not quiet:
            sys.stderr.write("\n")
        if output is not None:
            write_profile(profile, output)
    except SparseSearchError as error:
        sys.stderr.write(f"sparsesearch: {error}\n")
        return error.exit_code
    if as_json:
        sys.stdout.write(profile.model_dump_json() + "\n")
    else:
        written = [] if output is None else [f"written: {output}; next: sparsesearch profile import {output}"]
        sys.stdout.write("\n".join([*profile.sentences(), *written, ""]))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sparsesearch.latency.profile",
        description="Measure how long schedules of a backbone take on this device, so that they can be searched under "
        "a budget of milliseconds from anywhere; needs torch, timm and pydantic only.",
    )
    kinds = {"int": int, "float": float, "str": str}
    for one in fields(ProfilePlan):
        flag = f"--{one.name.replace('_', '-')}"
        text = help_of(one.name)
        if isinstance(one.default, bool):
            parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=one.default, help=text)
        else:
            kind = kinds[str(one.type).partition(" ")[0]]
            parser.add_argument(flag, type=kind, default=one.default, help=text)
    parser.add_argument("--json", action="store_true", help="print the profile as JSON")
    parser.add_argument("--quiet", "-q", action="store_true", help="no progress")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the profile into this file")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""Error of a latency profile on new schedules.

Each backbone is profiled at each batch size; then 30 other schedules are sampled, timed interleaved with the dense
model, and compared. Printed next to the error are: the error of assuming that latency is proportional to multiply-adds,
the error stated by the profile, timing noise (median over minimum of the dense model) and drift (slowest over fastest
group).

`--clock cpu` uses processor time, for one thread on a busy machine. The defaults take less than six minutes:

    python benchmarks/latency_prediction.py
    python benchmarks/latency_prediction.py --device cuda:0 --models deit_s --batch-size 64 --precision bf16 --compile
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from sparsesearch.backbones.registry import resolve_name
from sparsesearch.cost.analytic import AnalyticCost
from sparsesearch.cost.latency_model import LatencyModel
from sparsesearch.latency.confirm import confirm
from sparsesearch.latency.device import open_device
from sparsesearch.latency.profile.design import design
from sparsesearch.latency.profile.document import write_profile
from sparsesearch.latency.profile.profiled_methods import default_methods
from sparsesearch.latency.profile.profiling import profile_backbone
from sparsesearch.latency.target import Target
from sparsesearch.schedule import Schedule
from sparsesearch.study.latency_record import parse_precision

_PROFILE_FRACTION = 0.65


@dataclass(frozen=True)
class Row:
    """One backbone at one batch size; errors are relative."""

    model: str
    batch_size: int
    target: str
    dense_ms: float
    num_schedules: int
    mean_error: float
    median_error: float
    worst_error: float
    bias: float
    mean_error_by_macs: float
    stated_mean_error: float
    margin: float
    within_margin: float
    timing_noise: float
    worst_timing_noise: float
    drift: float
    num_measurements: int
    seconds: float

    def line(self) -> str:
        """The row as text."""
        parts = (
            f"{self.model:10s} b{self.batch_size:<3d} dense {self.dense_ms:8.3f} ms",
            f"error mean {self.mean_error:6.2%} median {self.median_error:6.2%} worst {self.worst_error:6.2%} "
            f"bias {self.bias:+6.2%}",
            f"by multiply-adds {self.mean_error_by_macs:5.1%}",
            f"profile says {self.stated_mean_error:5.2%}, margin {self.margin:5.1%} holds {self.within_margin:4.0%}",
            f"timing_noise {self.timing_noise:.3f} (worst {self.worst_timing_noise:.3f}) drift {self.drift:.3f}",
            f"{self.num_measurements} measurements, {self.seconds:.0f} s",
        )
        return " | ".join(parts)


def run(name: str, batch_size: int, options: argparse.Namespace) -> Row:
    """Profile, measure other schedules, compare."""
    started = time.monotonic()
    target = Target(
        backbone=resolve_name(name),
        device=open_device(options.device),
        batch_size=batch_size,
        precision=parse_precision(options.precision),
        compiled=options.compile,
        clock=options.clock,
    )
    profile = profile_backbone(target, seconds=_PROFILE_FRACTION * options.seconds, threads=options.threads, seed=0)
    if options.profiles is not None:
        write_profile(profile, options.profiles / f"{name}-b{batch_size}.json")
    shape, fit = profile.geometry, profile.fit
    seen = {timing.schedule.key(shape) for timing in profile.timings}
    drawn = design(shape, default_methods(shape), num_wholes=0, num_held_out=options.schedules + 10, seed=1)
    fresh = [one.schedule for one in drawn if one.role == "held_out" and one.schedule.key(shape) not in seen]
    schedules = {str(number): schedule for number, schedule in enumerate(fresh[: options.schedules])}
    left = options.seconds - (time.monotonic() - started)
    found = confirm(target, schedules, reference_ms=fit.dense_ms, seconds=left, threads=options.threads)
    model, cost = LatencyModel(fit), AnalyticCost()
    dense_macs = cost.estimate(shape, Schedule()).macs
    errors, by_macs = [], []
    for number, schedule in schedules.items():
        ms = found[number].ms
        errors.append(model.predict(shape, schedule) / ms - 1.0)
        by_macs.append(fit.dense_ms * cost.estimate(shape, schedule).macs / dense_macs / ms - 1.0)
    timing_noise = [one.timing_noise for one in (*profile.anchors, *(one.dense for one in found.values()))]
    return Row(
        model=name,
        batch_size=batch_size,
        target=profile.conditions.describe(),
        dense_ms=fit.dense_ms,
        num_schedules=len(errors),
        mean_error=statistics.fmean(map(abs, errors)),
        median_error=statistics.median(map(abs, errors)),
        worst_error=max(map(abs, errors)),
        bias=statistics.fmean(errors),
        mean_error_by_macs=statistics.fmean(map(abs, by_macs)),
        stated_mean_error=fit.error.mean,
        margin=fit.error.margin,
        within_margin=statistics.fmean((1.0 + error) * (1.0 + fit.error.margin) >= 1.0 for error in errors),
        timing_noise=statistics.median(timing_noise),
        worst_timing_noise=max(timing_noise),
        drift=profile.drift,
        num_measurements=len(profile.timings),
        seconds=time.monotonic() - started,
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="deit_pico,deit_t")
    parser.add_argument("--batch-size", default="1,8")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", default="float32")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--schedules", type=int, default=30, help="schedules to predict")
    parser.add_argument("--seconds", type=float, default=80.0, help="time for each backbone and batch size")
    parser.add_argument("--clock", choices=("wall", "cpu"), default="wall", help="cpu: processor time of all threads")
    parser.add_argument("--profiles", type=Path, help="keep the profiles in this folder")
    parser.add_argument("--json", type=Path, help="also write the table to this file")
    options = parser.parse_args()
    rows = []
    for name in options.models.split(","):
        for batch_size in map(int, options.batch_size.split(",")):
            rows.append(run(name, batch_size, options))
            print(rows[-1].line(), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

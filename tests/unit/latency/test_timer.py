"""Calls timed side by side: who runs when, what is kept, and what is said. No time itself is asserted."""

import pytest
import torch
from pydantic import ValidationError

from sparsesearch.errors import SpecError
from sparsesearch.latency.bench.comparison import BatchLatencies, Comparison
from sparsesearch.latency.device import conditions_here, open_device
from sparsesearch.latency.timer import (
    MIN_RUNS,
    MIN_WARMUP,
    NUM_WARMUP,
    CpuStopwatch,
    measure,
    working_bytes,
)
from sparsesearch.schedule import Schedule
from sparsesearch.study.latency_record import Conditions, Latency, parse_precision

CPU = torch.device("cpu")


class Script:
    """A stopwatch that runs the work and reads its milliseconds from a list, the last one again and again."""

    def __init__(self, *times_ms):
        self._times_ms = list(times_ms)

    def time(self, work):
        work()
        return self._times_ms.pop(0) if len(self._times_ms) > 1 else self._times_ms[0]


def run(*times_ms, num_runs=4, seconds=None, **options):
    calls = []
    work = {name: lambda name=name: calls.append(name) for name in ("dense", "sparse")}
    found = measure(work, device=CPU, num_runs=num_runs, seconds=seconds, stopwatch=Script(*times_ms), **options)
    return found, "".join(call[0] for call in calls)


def test_candidates_take_turns_and_the_order_alternates():
    found, calls = run(1.0)
    assert calls == "dssd" * (NUM_WARMUP // 2) + "dssd" * 2
    assert found.latencies["dense"].num_runs == found.latencies["sparse"].num_runs == 4
    assert found.num_attempts == 1


def test_rounds_are_told():
    told = []
    run(1.0, on_round=lambda: told.append(1))
    assert len(told) == NUM_WARMUP + 4


def test_a_slow_machine_leaves_runs_out():
    found, calls = run(1000.0, num_runs=50, seconds=10.0)
    assert found.latencies["dense"].num_runs == 5
    assert len(calls) == 2 * MIN_WARMUP + 10


def test_never_the_first_few():
    found, calls = run(60_000.0, num_runs=50, seconds=1.0)
    assert found.latencies["sparse"].num_runs == MIN_RUNS
    assert len(calls) == 2 * (MIN_WARMUP + MIN_RUNS)


def test_a_busy_machine_is_measured_again_and_the_quieter_attempt_counts():
    warmup = [1.0] * 2 * NUM_WARMUP
    found, _ = run(*warmup, *[1.0, 5.0, 5.0, 1.0, 5.0, 5.0, 5.0, 5.0], 2.0)
    assert found.num_attempts == 2
    assert not found.is_busy
    assert found.latencies["dense"].median_ms == 2.0


def test_a_machine_that_stays_busy_is_reported():
    warmup = [1.0] * 2 * NUM_WARMUP
    first = [1.0, 1.0, 3.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    second = [1.0, 1.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]
    found, _ = run(*warmup, *first, *second)
    assert found.is_busy
    assert found.num_attempts == 2
    assert found.timing_noise == 3.0


def test_statistics():
    latency = Latency.of([float(number) for number in range(1, 102)])
    assert (latency.min_ms, latency.p10_ms, latency.median_ms) == (1.0, 11.0, 51.0)
    assert (latency.p90_ms, latency.p99_ms, latency.num_runs) == (91.0, 100.0, 101)


def test_the_wall_clock_waits_for_the_work():
    done = []
    assert CpuStopwatch().time(lambda: done.append(1)) > 0
    assert done == [1]
    assert working_bytes(lambda: None, device=CPU) is None


def test_conditions_of_this_machine():
    found = conditions_here(CPU, precision="float32", batch_size=8)
    assert found.device == "cpu"
    assert found.device_name
    assert found.torch == torch.__version__
    assert found.cuda is found.cudnn is found.driver is None
    assert Conditions.model_validate_json(found.model_dump_json()) == found
    with pytest.raises(ValidationError):
        Conditions.model_validate({**found.model_dump(), "batch_size": 0})


def test_names_of_precisions_and_devices():
    assert [parse_precision(name) for name in ("float32", "bf16", "fp16", "bfloat16")] == [
        "float32",
        "bfloat16",
        "float16",
        "bfloat16",
    ]
    with pytest.raises(SpecError, match="choose float32, bf16 or fp16"):
        parse_precision("int8")
    assert open_device("cpu") == CPU


def compared(*medians, macs=50, dense_macs=100, timing_noise=1.0):
    batches = []
    for size, (dense, sparse) in zip((1, 8, 64), medians, strict=False):
        latencies = [Latency.of([ms / timing_noise, ms, ms, ms]) for ms in (dense, sparse)]
        conditions = conditions_here(CPU, precision="float32", batch_size=size)
        batches.append(BatchLatencies(conditions=conditions, dense=latencies[0], sparse=latencies[1]))
    return Comparison(
        backbone="deit_pico",
        image_size=(32, 32),
        schedule=Schedule(),
        described="dense",
        macs=macs,
        dense_macs=dense_macs,
        weight_bytes=(4, 5),
        batches=tuple(batches),
    )


def test_the_gain_that_is_kept():
    found = compared((3.0, 4.0), (3.0, 2.0), (4.0, 2.0))
    assert [batch.speed_up for batch in found.batches] == [0.75, 1.5, 2.0]
    assert [found.gain_kept(batch) for batch in found.batches] == [-0.25, 0.5, 1.0]
    assert compared((3.0, 3.0), macs=100).gain_kept(found.batches[0]) is None
    assert found.batches[1].images_per_s(found.batches[1].sparse) == 4000.0


def test_what_is_slower_is_said():
    said = compared((3.0, 4.0), (3.0, 2.0)).sentences()
    assert said == ["The sparse model is slower than the dense one at batch size 1 (0.75x)."]
    assert compared((3.0, 2.0)).sentences() == []


def test_a_busy_machine_is_said():
    (line,) = compared((3.0, 2.0), (3.0, 2.0), timing_noise=1.5).sentences()
    assert line.startswith("The machine was busy at batch size 1, 8: a median is 1.50 times its minimum")


def test_the_document_has_what_follows_from_the_numbers():
    document = compared((4.0, 2.0)).document()
    assert document["macs_ratio"] == 2.0
    (batch,) = document["batches"]
    assert (batch["speed_up"], batch["gain_kept"], batch["busy"]) == (2.0, 1.0, False)
    assert batch["sparse"]["images_per_s"] == 500.0
    assert batch["conditions"]["batch_size"] == 1

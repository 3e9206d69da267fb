"""What `bench` is asked for: each field is an option of the command and of `python -m sparsesearch.latency.bench`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

from sparsesearch.errors import SpecError
from sparsesearch.study.latency_record import NUM_RUNS, MemoryFormat, PrecisionName, parse_precision
from sparsesearch.text import parse_counts

CPU_SECONDS = 20.0


def _option(default: Any, text: str) -> Any:
    return field(default=default, metadata={"help": text})


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """How to measure.

    Attributes:
        device: `auto`, `cpu` or `cuda[:N]`.
        batch_size: Batch sizes, with commas between.
        precision: `float32`, `bfloat16` or `float16`, or short.
        compile: Run both models through `torch.compile`.
        channels_last: Give images and convolutions that memory format.
        threads: Threads of torch on the CPU, None for its own choice.
        runs: Timed runs of each model.
        seconds: Time for the timed runs of a batch size; None for no limit on a GPU and 20 on a CPU.
    """

    device: str = _option("auto", "auto, cpu or cuda[:N].")
    batch_size: str = _option("1,64", "Batch sizes, with commas between: 1,64,256.")
    precision: str = _option("float32", "float32, bf16 or fp16: type of weights and images.")
    compile: bool = _option(False, "Run both models through torch.compile.")
    channels_last: bool = _option(False, "Images and convolutions in that memory format.")
    threads: int | None = _option(None, "Threads of torch on the CPU. [default: torch's own]")
    runs: int = _option(NUM_RUNS, "Timed runs of each model.")
    seconds: float | None = _option(
        None, "Leave runs out after so long at a batch size. [default: 20 on a CPU, none on a GPU]"
    )

    def __post_init__(self) -> None:
        parse_precision(self.precision)
        if not self.batch_sizes:
            raise SpecError("no batch size is given; say --batch-size 1,64")
        for name in ("threads", "runs", "seconds"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SpecError(f"--{name} {value:g} is none; give a positive number")

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes, each once."""
        return tuple(dict.fromkeys(parse_counts(self.batch_size, what="--batch-size", least=1)))

    @property
    def precision_name(self) -> PrecisionName:
        """The precision in full."""
        return parse_precision(self.precision)

    @property
    def memory_format(self) -> MemoryFormat:
        """Of images and convolution weights."""
        return "channels_last" if self.channels_last else "contiguous"

    def seconds_on(self, kind: str) -> float | None:
        """The time limit of a batch size on a kind of device."""
        return CPU_SECONDS if self.seconds is None and kind == "cpu" else self.seconds


def help_of(name: str) -> str:
    """What an option means."""
    return next(str(one.metadata["help"]) for one in fields(BenchPlan) if one.name == name)

"""Options of `bench`: each field is an option of the command and of `python -m sparsesearch.latency.bench`."""

from __future__ import annotations

from dataclasses import dataclass

from sparsesearch.errors import SpecError
from sparsesearch.latency.command_options import check_positive, option, option_help
from sparsesearch.study.latency_record import NUM_RUNS, MemoryFormat, PrecisionName, parse_precision
from sparsesearch.text import parse_counts

CPU_SECONDS = 20.0


@dataclass(frozen=True, kw_only=True)
class BenchPlan:
    """Options of a comparison.

    Attributes:
        device: `auto`, `cpu` or `cuda[:N]`.
        batch_size: Comma-separated batch sizes.
        precision: `float32`, `bfloat16` or `float16`, or an abbreviation.
        compile: Whether to use `torch.compile` for both models.
        channels_last: Whether images and convolutions use that memory format.
        threads: CPU threads of torch, None for its default.
        runs: Timed runs of each model.
        seconds: Time limit of the timed runs of a batch size; None for no limit on a GPU and 20 on a CPU.
    """

    device: str = option("auto", "auto, cpu or cuda[:N].")
    batch_size: str = option("1,64", "Comma-separated batch sizes: 1,64,256.")
    precision: str = option("float32", "Data type of weights and images: float32, bf16 or fp16.")
    compile: bool = option(False, "Use torch.compile for both models.")
    channels_last: bool = option(False, "Use the channels-last memory format for images and convolutions.")
    threads: int | None = option(None, "CPU threads of torch. [default: that of torch]")
    runs: int = option(NUM_RUNS, "Timed runs of each model.")
    seconds: float | None = option(
        None, "Time limit of a batch size, after which runs are skipped. [default: 20 on a CPU, none on a GPU]"
    )

    def __post_init__(self) -> None:
        parse_precision(self.precision)
        if not self.batch_sizes:
            raise SpecError("no batch size given; use for example --batch-size 1,64")
        check_positive(self, "threads", "runs", "seconds")

    @property
    def batch_sizes(self) -> tuple[int, ...]:
        """The batch sizes, without duplicates."""
        return tuple(dict.fromkeys(parse_counts(self.batch_size, what="--batch-size", least=1)))

    @property
    def precision_name(self) -> PrecisionName:
        """The full name of the precision."""
        return parse_precision(self.precision)

    @property
    def memory_format(self) -> MemoryFormat:
        """Memory format of images and convolution weights."""
        return "channels_last" if self.channels_last else "contiguous"

    def seconds_on(self, kind: str) -> float | None:
        """The time limit of a batch size on a device type."""
        return CPU_SECONDS if self.seconds is None and kind == "cpu" else self.seconds


def help_of(name: str) -> str:
    """The help text of an option."""
    return option_help(BenchPlan, name)

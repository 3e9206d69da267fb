"""Choose the precision for a device, and measure the throughput of training and inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from time import perf_counter
from typing import Literal

import torch
from torch.nn import functional as F

from sparsesearch.data.task import Task
from sparsesearch.latency.device import open_device as open_device
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.training.arithmetic import Arithmetic, short_type
from sparsesearch.training.kinds import TrainingContext

Precision = Literal["auto", "float32", "bfloat16", "float16"]

_CLEARLY_FASTER = 1.3
_LARGE_MACS = 500_000_000
_MIN_ROUNDS, _MAX_ROUNDS, _LONG_ENOUGH_S = 3, 12, 3.0


@dataclass(frozen=True)
class Speeds:
    """Seconds per image of the dense model and of the data, median over several batches.

    Attributes:
        train_s: Forward pass, backward pass and optimizer step.
        infer_s: Forward pass only.
        load_s: Reading and augmenting an image, with all loader processes.
        overlaps: Whether images are loaded while the device computes: a GPU; on a CPU both need the same cores.
    """

    train_s: float
    infer_s: float
    load_s: float = 0.0
    overlaps: bool = False

    def with_loading(self, compute_s: float, *, at_once: float = 1.0) -> float:
        """Seconds for an image that is also loaded, if so many devices compute."""
        if self.overlaps:
            return max(compute_s / at_once, self.load_s)
        return (compute_s + self.load_s) / at_once


def choose_arithmetic(
    precision: Precision, *, device: torch.device, backbone: str, geometry: BackboneGeometry, task: Task
) -> tuple[Arithmetic, Speeds]:
    """Choose device and precision, and return them with their measured speed.

    `auto` is bfloat16 on a GPU that multiplies it in hardware, and float16 on others; on a CPU it is bfloat16 if its
    fastest batch is 1.3x faster than float32's. No memory of a GPU is kept.
    """
    candidates: list[torch.dtype]
    if precision != "auto":
        candidates = [Arithmetic.of(precision, device=device).dtype]
    elif device.type == "cuda":
        candidates = [short_type(device)]
    elif geometry.stem_macs + sum(s.depth * s.mlp_macs * s.num_tokens for s in geometry.stages) < _LARGE_MACS:
        candidates = [torch.float32]
    else:
        candidates = [torch.float32, torch.bfloat16]
    probes = [
        _Probe(TrainingContext(backbone, geometry, task, Arithmetic(device, dtype), seed=0)) for dtype in candidates
    ]
    _alternate(probes)
    plain, best = probes[0], min(probes, key=lambda probe: min(probe.train_s))
    chosen = best if min(best.train_s) * _CLEARLY_FASTER < min(plain.train_s) else plain
    found = chosen.context.arithmetic, chosen.speeds
    del chosen, best, plain
    probes.clear()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def _alternate(probes: list[_Probe]) -> None:
    """Time the probes in turn, so that drifts in machine speed affect them equally; the first round is a warm-up.

    Small models get more rounds, as measurements of a few tenths of a second are unreliable on a shared machine.
    """
    started = perf_counter()
    for i in range(_MAX_ROUNDS + 1):
        for probe in probes:
            probe.measure(keep=i > 0)
        if i >= _MIN_ROUNDS and perf_counter() - started > _LONG_ENOUGH_S:
            return


class _Probe:
    """Timings of a new dense model: seconds per image, one entry per batch."""

    def __init__(self, context: TrainingContext) -> None:
        self.context = context
        self.train_s: list[float] = []
        self.infer_s: list[float] = []
        device = context.arithmetic.device
        self._batch = 8 if max(context.geometry.image_size) > 64 and device.type == "cpu" else 64
        self._model = context.fresh_model()
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-6)
        shape = (self._batch, context.task.in_chans, *context.geometry.image_size)
        images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        memory_format = torch.channels_last if device.type == "cuda" else torch.contiguous_format
        self._images = images.to(device, memory_format=memory_format)
        self._labels = torch.zeros(self._batch, dtype=torch.long, device=device)

    @property
    def speeds(self) -> Speeds:
        return Speeds(train_s=median(self.train_s), infer_s=median(self.infer_s))

    def measure(self, *, keep: bool) -> None:
        train_s, infer_s = self._time(self._train), self._time(self._infer)
        if keep:
            self.train_s.append(train_s)
            self.infer_s.append(infer_s)

    def _train(self) -> None:
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        with self.context.arithmetic.training_products(), self.context.arithmetic.autocast():
            logits = self._model(self._images)
        F.cross_entropy(logits.float(), self._labels).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()

    def _infer(self) -> None:
        self._model.eval()
        with torch.no_grad(), self.context.arithmetic.autocast():
            self._model(self._images)

    def _time(self, work: Callable[[], None]) -> float:
        device = self.context.arithmetic.device
        started = perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return (perf_counter() - started) / self._batch

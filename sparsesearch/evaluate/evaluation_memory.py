"""Whether the prefix states of all validation images fit the memory of an evaluation, and what follows if not."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import torch

from sparsesearch.data.validation_size import standard_error
from sparsesearch.evaluate.free_memory import free_bytes
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.study.spec import FidelitySpec, StudySpec
from sparsesearch.text import counted, size_text
from sparsesearch.training.scoring import CACHE_BYTES

_FRACTION = 0.5
_MAX_BATCH, _MIN_ROUNDS = 16, 4
_EPSILON = 1e-6


@dataclass(frozen=True)
class EvaluationMemory:
    """The memory that evaluations need, and that each of the processes on a device may use.

    Attributes:
        num_images: Validation images of an evaluation.
        needed_bytes: Size of the prefix states of all of them before the first block.
        limit_bytes: Limit for the prefix states of one process; None if free memory is not known.
        processes: Number of processes that share the memory.
    """

    num_images: int
    needed_bytes: int
    limit_bytes: int | None
    processes: int

    @classmethod
    def here(
        cls, spec: StudySpec, geometry: BackboneGeometry, *, num_images: int, device: torch.device
    ) -> EvaluationMemory:
        """The memory of a process on this machine: an equal part of half of what is free on its device now.

        Args:
            spec: The study.
            geometry: The backbone with its input size.
            num_images: Validation images of an evaluation.
            device: Device of the evaluations.
        """
        processes = _processes(spec, is_gpu=device.type == "cuda")
        free = free_bytes(device)
        limit = None if free is None else int(_FRACTION * free) // processes
        return cls(num_images, num_images * state_bytes(geometry), limit, processes)

    @property
    def fits(self) -> bool:
        """Whether the prefix states of all images can stay in memory."""
        return self.limit_bytes is None or self.needed_bytes <= self.limit_bytes

    @property
    def cache_bytes(self) -> int:
        """Limit of what a scorer caches in addition to the embedded images that it keeps."""
        if self.limit_bytes is None:
            return CACHE_BYTES
        return min(CACHE_BYTES, self.limit_bytes - (self.needed_bytes if self.fits else 0))

    def proposal_batch(self, fidelity: FidelitySpec) -> int:
        """Proposals to make before their results are known: 1 if all fits, so that each follows from all before it.

        Otherwise 16, which share each pass over the images, or a quarter of all.
        """
        if self.fits or fidelity.strategy == "finetune":
            return 1
        return max(1, min(_MAX_BATCH, fidelity.evaluations // _MIN_ROUNDS))

    def describe(self, fidelity: FidelitySpec) -> str:
        """Images of an evaluation, their standard error, and the memory, in one line."""
        error = f"standard error {100 * standard_error(self.num_images):.2f} points at 80 % accuracy"
        images = f"evaluation: {counted(self.num_images, 'validation image')} ({error})"
        if fidelity.strategy == "finetune":
            return images
        line = f"{images}, prefix states of {size_text(self.needed_bytes)}"
        if self.limit_bytes is None:
            return f"{line} in each process"
        each = f" for each of {self.processes} processes" if self.processes > 1 else ""
        limit = f"the limit of {size_text(self.limit_bytes)}{each}"
        if self.fits:
            return f"{line} within {limit}"
        schedules = counted(self.proposal_batch(fidelity), "schedule")
        return f"{line} above {limit}: computed anew, batch by batch of images, for {schedules} at a time"


def state_bytes(geometry: BackboneGeometry) -> int:
    """Size of the prefix state of one image before the first block: its tokens or its feature map, in float32."""
    stage = geometry.stages[0]
    return 4 * stage.dim * (stage.num_tokens + stage.num_prefix_tokens)


def _processes(spec: StudySpec, *, is_gpu: bool) -> int:
    """How many processes of a study share a device of this machine."""
    if spec.dispatcher == "inline":
        return 1
    resources = spec.resources
    by_gpu, by_cpu = 1 / (resources.gpus_per_trial or 1.0), (os.cpu_count() or 1) / resources.cpus_per_trial
    fitting = max(1, math.floor((by_gpu if is_gpu else by_cpu) + _EPSILON))
    return min(fitting, resources.max_concurrent or fitting)

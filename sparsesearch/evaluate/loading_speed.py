"""Measure how fast training images come out of a task's loader."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from time import perf_counter

import torch

from sparsesearch.data.loader_workers import num_loader_workers
from sparsesearch.data.task import Epoch, Task
from sparsesearch.evaluate.throughput import Speeds
from sparsesearch.study.spec import StudySpec

_LONG_ENOUGH_S = 4.0
_ENOUGH_BATCHES = 64


def with_loading(speeds: Speeds, task: Task, spec: StudySpec, *, device: torch.device) -> Speeds:
    """Speeds with that of the data, measured through the loader of the study.

    On a CPU, loader processes take cores from the training, so their part of all cores is added to its time.
    """
    if spec.data.is_demo:  # it draws an epoch at once, in a fraction of its training
        return speeds
    load_s = seconds_to_load(task, batch_size=spec.fidelity.dense.batch_size)
    if device.type == "cuda":
        return replace(speeds, load_s=load_s, overlaps=True)
    workers = num_loader_workers(spec.data.workers)
    fraction = min(1.0, workers / torch.get_num_threads()) if workers else 1.0
    return replace(speeds, load_s=load_s * fraction)


def seconds_to_load(task: Task, *, batch_size: int) -> float:
    """Seconds of wall time to read and augment an image, with all loader processes of the task.

    The second half of some seconds counts: before that, processes start, and all of them deliver their first batch.

    Args:
        task: The training data.
        batch_size: Images of a batch.
    """
    started = perf_counter()
    arrivals: list[tuple[float, int]] = [(started, 0)]
    with closing(task.fresh_epoch(Epoch(number=1, seed=0, batch_size=batch_size))) as batches:  # type: ignore[type-var]
        for batch in batches:
            arrivals.append((perf_counter(), arrivals[-1][1] + len(batch.labels)))
            if len(arrivals) > _ENOUGH_BATCHES or (
                len(arrivals) > 3 and arrivals[-1][0] - arrivals[1][0] > _LONG_ENOUGH_S
            ):
                break
    (first_at, first), (last_at, last) = arrivals[len(arrivals) // 2 if len(arrivals) > 3 else 0], arrivals[-1]
    return (last_at - first_at) / max(1, last - first)

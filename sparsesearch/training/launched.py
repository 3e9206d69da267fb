"""Training processes that `torchrun` has started."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist

from sparsesearch.training.processes import Processes


def rank_of_launch() -> int:
    """Number of this process among those that `torchrun` has started; 0 without it."""
    return int(os.environ["RANK"]) if dist.is_torchelastic_launched() else 0


@contextmanager
def launched(device: torch.device) -> Iterator[tuple[Processes, torch.device]]:
    """Join the processes that `torchrun` has started together with this one, if it has, while the block runs.

    Args:
        device: What was asked for; of several GPUs, each process on a machine takes its own.

    Yields:
        The processes, and the device of this one.
    """
    if not dist.is_torchelastic_launched():
        yield Processes(), device
        return
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ["LOCAL_RANK"]))
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield Processes(), device
    finally:
        dist.destroy_process_group()

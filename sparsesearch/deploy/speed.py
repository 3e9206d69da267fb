"""How fast files run next to each other, in their own runtime on this machine."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sparsesearch.deploy.format import Run
from sparsesearch.latency.timer import Measured, measure

BATCHES = (1, 8, 32)
_SECONDS = 2.0


def time_runs(runs: Mapping[str, Run], example: torch.Tensor, *, seconds: float = _SECONDS) -> dict[int, Measured]:
    """Time several files in turn, at each batch size.

    Args:
        runs: Runs each of them.
        example: Images; repeated to each batch size.
        seconds: Time limit at a batch size.
    """
    found = {}
    for batch in BATCHES:
        images = torch.cat([example] * -(-batch // len(example)))[:batch].contiguous()
        calls = {name: (lambda run=run, images=images: run(images)) for name, run in runs.items()}
        found[batch] = measure(calls, device=torch.device("cpu"), num_runs=30, seconds=seconds)
    return found

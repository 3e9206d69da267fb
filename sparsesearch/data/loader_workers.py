"""How many processes decode images."""

from __future__ import annotations

import os


def num_loader_workers(asked: int | None, *, cores: float | None = None) -> int:
    """The number of loader processes of one training or evaluating process.

    Args:
        asked: What the study asks for; None for one less than the cores of this process, and at least one.
        cores: CPU cores that this process may use; None for its part of those of the machine, which processes that
            `torchrun` has started share.
    """
    if asked is not None:
        return asked
    here = len(os.sched_getaffinity(0))
    own = here // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if cores is None else min(int(cores), here)
    return max(1, own - 1)

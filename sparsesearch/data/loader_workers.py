"""How many processes decode images."""

from __future__ import annotations

import logging
import os
import shutil

logger = logging.getLogger(__name__)

_SHARED_MEMORY = "/dev/shm"
_given: int | None = None


def limit_cores(cores: int) -> None:
    """Set how many cores this process may use, where a scheduler divides those of the machine."""
    global _given
    _given = cores


def num_loader_workers(asked: int | None) -> int:
    """The number of loader processes of one training or evaluating process.

    Args:
        asked: What the study asks for; None for one less than the cores of this process, and at least one. These are
            what `limit_cores` says, or this process's part of the machine, which processes of `torchrun` share.
    """
    if asked is not None:
        return asked
    here = len(os.sched_getaffinity(0))
    own = here // int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if _given is None else min(_given, here)
    return max(1, own - 1)


def shared_memory_slots(num_bytes: int) -> int:
    """How many pieces of a size fit into half of the free shared memory, through which processes exchange them."""
    try:
        free = shutil.disk_usage(_SHARED_MEMORY).free
    except OSError:  # it has another name there
        return 2**31
    slots = free // (2 * num_bytes)
    if slots < 2:
        logger.warning(
            "%s has only %.0f MB left, too little for loader processes, so images are decoded in the training process; "
            "give the container more (docker run --shm-size=1g)",
            _SHARED_MEMORY,
            free / 1e6,
        )
    return slots

"""What running out of memory looks like, and how freed memory is returned."""

from __future__ import annotations

import ctypes

import torch


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that a device, or the machine, has no memory left."""
    return isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)


def return_freed_memory() -> None:
    """Return freed main memory to the system, where the C library can (glibc).

    Otherwise its heap keeps what lies between blocks in use, and a process seems to grow while it reads batch by batch.
    """
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)

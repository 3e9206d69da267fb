"""How much memory is free for this process, on its device."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

_CGROUPS = Path("/sys/fs/cgroup")
_MEMINFO = Path("/proc/meminfo")
_OWN_CGROUPS = Path("/proc/self/cgroup")


def free_bytes(device: torch.device) -> int | None:
    """Bytes that this process can still allocate on a device; None if that is not known.

    On a GPU: what is free there, and what this process has reserved and not used. On the CPU: what Linux says is
    available, or what the control groups of this process leave (of a container, or of a SLURM job) if that is less.
    """
    if device.type == "cuda":
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + unused
    return free_main_memory()


def free_main_memory(
    *, meminfo: Path = _MEMINFO, own_cgroups: Path = _OWN_CGROUPS, cgroups: Path = _CGROUPS
) -> int | None:
    """Bytes of main memory that this process can still allocate; None if that is not known.

    Args:
        meminfo: What Linux says about memory.
        own_cgroups: The control groups of this process.
        cgroups: Where control groups are mounted.
    """
    limits = list(_left_in_cgroups(own_cgroups, cgroups))
    for line in _read(meminfo).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            limits.append(1024 * int(value.split()[0]))
    return min(limits, default=None)


def _left_in_cgroups(own_cgroups: Path, cgroups: Path) -> Iterator[int]:
    """What each control group leaves that this process is in; pages of files that can be dropped are free."""
    for line in _read(own_cgroups).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, names = cgroups, ("memory.max", "memory.current")
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", ("memory.limit_in_bytes", "memory.usage_in_bytes")
        else:
            continue
        own = root / path.lstrip("/")
        for folder in (own, *own.parents):
            limit, used = (_read(folder / name).strip() for name in names)
            if limit.isdigit() and used.isdigit():
                stat = dict(line.split(maxsplit=1) for line in _read(folder / "memory.stat").splitlines())
                cached = int(stat.get("total_inactive_file", stat.get("inactive_file", 0)))
                yield max(0, int(limit) - int(used) + cached)
            if folder == root:
                break


def _read(path: Path) -> str:
    """The text of a file of the system; empty if it is not there."""
    try:
        return path.read_text(encoding="ascii")
    except OSError:
        return ""

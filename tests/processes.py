"""Find processes of this machine."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def children(pid: int, name: str) -> list[int]:
    """Ids of the processes of a name that a process has started."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError, ValueError, IndexError):  # it ended meanwhile
            if entry.name.isdigit() and (entry / "comm").read_text(encoding="utf-8").strip() == name:
                parent = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]
                if int(parent) == pid:
                    found.append(int(entry.name))
    return found

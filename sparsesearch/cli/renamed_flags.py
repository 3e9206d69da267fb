"""Renamed flags: giving the old name is an error that names the new one."""

from __future__ import annotations

_RENAMED = {
    ("run", "--batch-size"): "--latency-batch-size (the batch size of training is in the study document)",
    ("run", "--threads"): "--latency-threads",
    ("run", "--elastic"): "--strategy supernet or --strategy finetune",
    ("run", "--out"): "--output",
    ("resume", "--out"): "--output",
    ("bench", "--out"): "--output",
    ("report", "--out"): "--output",
    ("cost", "--recipe"): "--schedule",
}


def new_name(command: str, flag: str) -> str | None:
    """Return the new name of a renamed flag of a command, None for any other flag."""
    return _RENAMED.get((command, flag))

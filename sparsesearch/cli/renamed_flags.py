"""Flags that had other names once; whoever gives the old one is told the new one."""

from __future__ import annotations

_RENAMED = {
    ("run", "--batch-size"): "--latency-batch-size (the batch size of training is in the study document)",
    ("run", "--compile"): "--latency-compile",
    ("run", "--no-compile"): "--no-latency-compile",
    ("run", "--threads"): "--latency-threads",
    ("run", "--elastic"): "--strategy supernet or --strategy finetune",
    ("run", "--out"): "--output",
    ("resume", "--out"): "--output",
    ("bench", "--out"): "--output",
    ("report", "--out"): "--output",
    ("cost", "--recipe"): "--schedule",
}


def new_name(command: str, flag: str) -> str | None:
    """What a flag of a command is called now, None if it never had another name."""
    return _RENAMED.get((command, flag))

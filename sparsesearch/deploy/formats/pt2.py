"""`pt2`: the exported program itself, for `torch.export.load` in Python."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor

from sparsesearch.deploy.exported import Exported, quiet
from sparsesearch.deploy.format import Run
from sparsesearch.files.durable import write_file

NAME, FILE, DESCRIPTION, RUNS_ALONE = "pt2", "model.pt2", "torch.export's program", True


def check() -> None:
    """Torch has it."""


def write(exported: Exported, path: Path, *, with_kept: bool = False) -> None:
    """Write the program; the metadata are its extra files."""
    with quiet():
        program = exported.program_of(with_kept=with_kept)
        made = io.BytesIO()  # torch's writer of archives ends the process if the disk is full
        torch.export.save(program, made, extra_files=dict(exported.metadata))
    write_file(path, made.getvalue())


def open(path: Path) -> Run:
    """Load the program."""
    with quiet():
        module = torch.export.load(path).module()

    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            found = module(images)
        return found if isinstance(found, tuple) else (found,)

    return run

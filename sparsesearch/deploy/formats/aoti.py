"""`aoti`: a package of AOTInductor, compiled for this kind of processor, for Python and C++."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sparsesearch.deploy.exported import Exported, quiet
from sparsesearch.deploy.format import Run
from sparsesearch.errors import MissingExtraError
from sparsesearch.files.durable import write_file

NAME, FILE, DESCRIPTION, RUNS_ALONE = "aoti", "model.aoti.pt2", "AOTInductor's package for this processor", True


def check() -> None:
    """Check that there is a C++ compiler."""
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        raise MissingExtraError("the format aoti needs a C++ compiler; install g++ or clang++")


def write(exported: Exported, path: Path, *, with_kept: bool = False) -> None:
    """Compile the program; the metadata are those of the package."""
    program, settings = exported.program_of(with_kept=with_kept), {"aot_inductor.metadata": dict(exported.metadata)}
    with quiet(), torch.no_grad():
        made: Any = io.BytesIO()  # torch's writer of archives ends the process if the disk is full
        torch._inductor.aoti_compile_and_package(program, package_path=made, inductor_configs=settings)
    write_file(path, made.getvalue())


def open(path: Path) -> Run:
    """Load the package."""
    package: Any = torch._inductor.aoti_load_package(str(path))

    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            found = package(images)
        return tuple(found) if isinstance(found, tuple | list) else (found,)

    return run

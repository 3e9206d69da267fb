"""torch and the device: a small product, compared with what it must be."""

from __future__ import annotations

import shutil

import torch

from sparsesearch.app.doctor.finding import FailedCheckError, Surroundings
from sparsesearch.errors import one_line
from sparsesearch.latency.device import open_device
from sparsesearch.text import size_text

_SIDE = 256


def device(surroundings: Surroundings) -> str:
    """The device that studies would use can multiply, and a GPU of this machine is not overlooked."""
    build = f"torch {torch.__version__}" + (f", CUDA {torch.version.cuda}" if torch.version.cuda else ", without CUDA")
    chosen = open_device(surroundings.device)
    if chosen.type == "cpu" and surroundings.device == "auto" and shutil.which("nvidia-smi"):
        how = "cannot use it" if torch.version.cuda else "is built without CUDA"
        raise FailedCheckError(
            f"this machine has nvidia-smi, but {build} {how}",
            fix="install the build of torch for the driver (pytorch.org/get-started), or use --device cpu",
        )
    a = torch.arange(_SIDE, dtype=torch.float32).remainder(7).repeat(_SIDE, 1)
    b = torch.eye(_SIDE).flip(0) * 2
    try:
        product = (a.to(chosen) @ b.to(chosen)).cpu()
        free = torch.cuda.mem_get_info(chosen) if chosen.type == "cuda" else None
    except RuntimeError as error:
        raise FailedCheckError(
            f"{build}: {chosen} cannot multiply: {one_line(error)}",
            fix="check nvidia-smi, and whether another process uses up the device; or use --device cpu",
        ) from error
    if not torch.equal(product, 2 * a.flip(1)):
        raise FailedCheckError(f"{build}: a product on {chosen} is wrong", fix="the device is broken; use another one")
    if free is None:
        return f"{build}, on the CPU with {torch.get_num_threads()} threads"
    name = torch.cuda.get_device_name(chosen)
    return f"{build}, on {name} with {size_text(free[0])} of {size_text(free[1])} free"

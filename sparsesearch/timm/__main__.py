"""`python -m sparsesearch.timm SCRIPT ...`: run a script that only imports timm, with the sparse models registered.

Python imports the package, which registers the models, before it runs this module. `torchrun -m sparsesearch.timm
SCRIPT` does the same in several processes.
"""

from __future__ import annotations

import re
import runpy
import sys
from collections.abc import Sequence
from functools import wraps
from pathlib import Path
from typing import Any

from torch.nn import Module
from torch.nn.parallel import DistributedDataParallel

from sparsesearch.backbones.lookup import resolve_name
from sparsesearch.errors import SparseSearchError

_USAGE = """\
usage: python -m sparsesearch.timm SCRIPT [ARGUMENT ...]

Runs a timm script, or any other, with sparse_<name> registered for every supported backbone:

  python -m sparsesearch.timm validate.py --model sparse_deit_small_patch16_224 --model-kwargs schedule=best.yaml
  python -m sparsesearch.timm benchmark.py --model sparse_vit_base_patch16_224 --model-kwargs schedule=rho=0.7
  torchrun --nproc-per-node 2 -m sparsesearch.timm train.py --model sparse_convnext_tiny --model-kwargs schedule=a.yaml
"""


def main(arguments: Sequence[str]) -> int:
    """Run a script as `python SCRIPT ...` would.

    Args:
        arguments: The script and its arguments.

    Returns:
        0, or 2 for invalid input. A script that calls `sys.exit` exits with its own code.
    """
    if not arguments or arguments[0] in ("-h", "--help"):
        (sys.stdout if arguments else sys.stderr).write(_USAGE)
        return 0 if arguments else 2
    script = Path(arguments[0])
    if not script.is_file():
        return _report_error(f"no such script: {script}; give the path of a script, such as timm's validate.py")
    sys.argv = list(arguments)
    sys.path[0] = str(script.resolve().parent)
    _leave_out_device_ids_on_a_cpu()
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SparseSearchError as error:
        return _report_error(str(error))
    except RuntimeError as error:
        unknown = re.fullmatch(r"Unknown model \(sparse_(.+)\)", str(error))
        if unknown is None:
            raise
        return _report_error(_why_unknown(unknown[1]))
    return 0


def _why_unknown(backbone: str) -> str:
    """Why there is no sparse model of a backbone."""
    try:
        return f"no model sparse_{backbone}; use sparse_{resolve_name(backbone)}"
    except SparseSearchError as error:
        return f"no model sparse_{backbone}: {error}"


def _leave_out_device_ids_on_a_cpu() -> None:
    """Let scripts that always name a device wrap a model that is on a CPU, where torch accepts no `device_ids`."""
    construct = DistributedDataParallel.__init__

    @wraps(construct)
    def construct_anywhere(
        self: Any, module: Module, device_ids: Any = None, output_device: Any = None, *args: Any, **options: Any
    ) -> None:
        if all(parameter.device.type == "cpu" for parameter in module.parameters()):
            device_ids = output_device = None
        construct(self, module, device_ids, output_device, *args, **options)

    DistributedDataParallel.__init__ = construct_anywhere  # type: ignore[method-assign]


def _report_error(text: str) -> int:
    sys.stderr.write(f"sparsesearch: {text}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

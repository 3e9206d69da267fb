"""`python -m sparsesearch.timm SCRIPT ...`: run a script that only imports timm, with the sparse models registered.

Python imports the package, which registers the models, before it runs this module.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from sparsesearch.errors import SparseSearchError

_USAGE = """\
usage: python -m sparsesearch.timm SCRIPT [ARGUMENT ...]

Runs a timm script, or any other, with sparse_<name> registered for every supported backbone:

  python -m sparsesearch.timm validate.py --model sparse_deit_small_patch16_224 --model-kwargs schedule=best.yaml
  python -m sparsesearch.timm benchmark.py --model sparse_vit_base_patch16_224 --model-kwargs schedule=rho=0.7
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
    try:
        runpy.run_path(str(script), run_name="__main__")
    except SparseSearchError as error:
        return _report_error(str(error))
    return 0


def _report_error(text: str) -> int:
    sys.stderr.write(f"sparsesearch: {text}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

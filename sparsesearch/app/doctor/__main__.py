"""Run one check, `MODULE:FUNCTION`, with the surroundings as JSON on standard input; print the finding as JSON."""

from __future__ import annotations

import json
import os
import sys
from importlib import import_module

from sparsesearch.app.doctor.finding import FailedCheckError, Surroundings
from sparsesearch.errors import SparseSearchError, one_line
from sparsesearch.redact import without_password


def main() -> None:
    """Print what was found."""
    answer = os.dup(1)
    os.dup2(2, 1)  # what libraries print goes to standard error
    surroundings = Surroundings.model_validate_json(sys.stdin.read())
    module, _, function = sys.argv[1].partition(":")
    try:
        found = {"ok": True, "detail": getattr(import_module(f"{__package__}.{module}"), function)(surroundings)}
    except FailedCheckError as error:
        found = {"ok": False, "detail": error.detail, "fix": error.fix}
    except SparseSearchError as error:
        what, _, fix = one_line(error).partition("; ")
        found = {"ok": False, "detail": what, "fix": fix}
    os.write(answer, f"{without_password(json.dumps(found))}\n".encode())


if __name__ == "__main__":
    main()

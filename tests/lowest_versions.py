"""Print the lowest versions that pyproject.toml allows, as constraints for an installer: `numpy==1.26`, one a line.

`make compat` installs exactly these, so that a bound nothing was tried with cannot stand there.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
_BOUND = re.compile(r"([\w.-]+)(?:\[[\w,-]+\])?>=([\w.]+)")


def lowest_versions(document: dict[str, Any], *, tests: bool = True) -> Iterator[str]:
    """One constraint for every package that the project, its extras and its tests ask for.

    Args:
        document: The content of pyproject.toml.
        tests: Whether to include what only the tests need.

    Raises:
        ValueError: A requirement is not of the form `name>=version`.
    """
    project = document["project"]
    wanted = [*project["dependencies"], *(document["dependency-groups"]["test"] if tests else ())]
    for name, requirements in project["optional-dependencies"].items():
        wanted += [] if name == "all" else requirements  # all: the other extras
    for requirement in sorted({*wanted}):
        bound = _BOUND.fullmatch(requirement)
        if bound is None:
            raise ValueError(f"{requirement!r} in {PYPROJECT.name} has no lower bound, or more than one")
        yield f"{bound[1]}=={bound[2]}"


if __name__ == "__main__":
    sys.stdout.writelines(f"{line}\n" for line in lowest_versions(tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))))

"""The package itself, and the packages that it needs."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, metadata, requires, version
from pathlib import Path

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from sparsesearch.app.doctor.finding import FailedCheckError, Surroundings
from sparsesearch.files.package_files import bundled
from sparsesearch.text import counted

_SHOWN = 5


def installation(surroundings: Surroundings) -> str:
    """The package is whole: the folders shipped with it are there."""
    folder = Path(__file__).resolve().parents[2]
    try:
        number = version("sparsesearch")
        folders = [bundled("spaces"), bundled("db"), bundled("workers")]
    except (PackageNotFoundError, FileNotFoundError) as error:
        raise FailedCheckError(str(error), fix="reinstall with: pip install --force-reinstall sparsesearch") from error
    empty = [str(each) for each in folders if not any(each.iterdir())]
    if empty:
        raise FailedCheckError(f"{empty[0]} is empty", fix="reinstall with: pip install --force-reinstall sparsesearch")
    return f"sparsesearch {number} in {folder}, Python {platform.python_version()}"


def versions(surroundings: Surroundings) -> str:
    """Every required package is installed in a version that fits."""
    problems = []
    python = SpecifierSet(str(metadata("sparsesearch").json.get("requires_python", "")))
    if not python.contains(platform.python_version(), prereleases=True):
        problems.append(f"Python {platform.python_version()} is not {python}")
    needed = [Requirement(text) for text in requires("sparsesearch") or ()]
    plain = [each for each in needed if each.marker is None or each.marker.evaluate({"extra": ""})]
    for each in plain:
        try:
            found = version(each.name)
        except PackageNotFoundError:
            problems.append(f"{each.name} is not installed")
            continue
        if not each.specifier.contains(found, prereleases=True):
            problems.append(f"{each.name} {found} is not {each.specifier}")
    if problems:
        more = f", and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise FailedCheckError(
            ", ".join(problems[:_SHOWN]) + more, fix="install versions that fit with: pip install sparsesearch"
        )
    return f"{counted(len(plain), 'package')}, all in the required versions"

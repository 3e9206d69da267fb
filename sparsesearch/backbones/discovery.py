"""Finds modules by where they are, so that a new one needs no entry anywhere."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from types import ModuleType


def modules_of(package: ModuleType) -> tuple[ModuleType, ...]:
    """Import all modules of a package, in order of their names."""
    names = sorted(info.name for info in pkgutil.iter_modules(package.__path__))
    return tuple(import_module(f"{package.__name__}.{name}") for name in names)

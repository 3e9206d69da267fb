"""Search over sparsification schedules of vision backbones, under a budget.

Importing this package imports only the standard library; the names below import what they need on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sparsesearch.api.client import Client
    from sparsesearch.api.retrain import retrain
    from sparsesearch.api.run import run
    from sparsesearch.api.study import Study
    from sparsesearch.artifacts.checkpoint import load
    from sparsesearch.backbones.calls import new_call
    from sparsesearch.backbones.transforms import freeze_, restore_, sparsify_
    from sparsesearch.schedule import Schedule, Step
    from sparsesearch.training.distillation import distillation_loss, keep_ratio_loss

    __version__: str

__all__ = [
    "Client", "Schedule", "Step", "Study", "__version__", "distillation_loss", "freeze_", "keep_ratio_loss", "load",
    "new_call", "restore_", "retrain", "run", "sparsify_",
]  # fmt: skip

_LAZY = {
    "Schedule": "sparsesearch.schedule",
    "Step": "sparsesearch.schedule",
    "sparsify_": "sparsesearch.backbones.transforms",
    "freeze_": "sparsesearch.backbones.transforms",
    "restore_": "sparsesearch.backbones.transforms",
    "new_call": "sparsesearch.backbones.calls",
    "distillation_loss": "sparsesearch.training.distillation",
    "keep_ratio_loss": "sparsesearch.training.distillation",
    "load": "sparsesearch.artifacts.checkpoint",
    "Client": "sparsesearch.api.client",
    "Study": "sparsesearch.api.study",
    "run": "sparsesearch.api.run",
    "retrain": "sparsesearch.api.retrain",
}


def __getattr__(name: str) -> object:
    if name in _LAZY:
        return getattr(import_module(_LAZY[name]), name)
    if name == "__version__":
        from importlib.metadata import version

        return version("sparsesearch")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

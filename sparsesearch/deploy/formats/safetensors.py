"""`safetensors`: the weights with their schedule in one file, for `sparsesearch.load`."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sparsesearch.artifacts.checkpoint import load, save
from sparsesearch.deploy.exported import Exported
from sparsesearch.deploy.format import Run

NAME, FILE, DESCRIPTION, RUNS_ALONE = "safetensors", "model.safetensors", "weights for sparsesearch.load", False


def check() -> None:
    """It is installed with sparsesearch."""


def write(exported: Exported, path: Path, *, with_kept: bool = False) -> None:
    """Write the weights with their card."""
    save(exported.model, path, card=exported.card)


def open(path: Path) -> Run:
    """Load the model."""
    model = load(path)

    def run(images: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():
            return (model(images),)

    return run

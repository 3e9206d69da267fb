"""Backbones bundled with this package, which timm does not provide."""

from __future__ import annotations

from collections.abc import Mapping

from sparsesearch.backbones import families, models
from sparsesearch.backbones.discovery import modules_of
from sparsesearch.backbones.model_options import BundledBackbone

PICO = "deit_pico"
BUNDLED: Mapping[str, BundledBackbone] = {
    name: backbone
    for module in (*modules_of(models), *modules_of(families))
    for name, backbone in getattr(module, "BACKBONES", {}).items()
}

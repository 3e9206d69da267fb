"""`timm`: a folder that timm loads, and that can be pushed to the Hugging Face hub."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import yaml
from timm.models import save_for_hf, split_model_name_tag
from torch import Tensor

from sparsesearch.artifacts.checkpoint import timm_config
from sparsesearch.backbones.lookup import backbone_geometry
from sparsesearch.data.loading import Preprocessing
from sparsesearch.deploy.exported import Exported
from sparsesearch.deploy.folder_page import folder_page
from sparsesearch.deploy.format import Run
from sparsesearch.errors import SparseSearchError
from sparsesearch.schedule.image_size import sides
from sparsesearch.visualize.inspect import inspect_images
from sparsesearch.visualize.kept_tokens import save_kept_tokens

NAME, FILE, DESCRIPTION, RUNS_ALONE = "timm", "timm", "a folder for timm and the Hugging Face hub", False

PREFIX, PICTURE = "sparse_", "kept_tokens.png"
_FRESH = """
import sys, torch, timm, sparsesearch.timm
model = timm.create_model("local-dir:" + sys.argv[1], pretrained=True).eval()
images = torch.load(sys.argv[2], weights_only=True)
with torch.no_grad():
    torch.save(model(images), sys.argv[3])
"""


def check() -> None:
    """It is installed with sparsesearch."""


def write(exported: Exported, path: Path, *, with_kept: bool = False) -> None:
    """Write the folder: `config.json`, `model.safetensors`, `schedule.yaml`, `kept_tokens.png` and `README.md`."""
    card = exported.card
    architecture = PREFIX + split_model_name_tag(card.backbone)[0]
    model: Any = copy.copy(exported.model)
    input_size = (card.in_chans, *sides(card.image_size))
    model.pretrained_cfg = {
        **(getattr(model, "pretrained_cfg", None) or {}),
        **timm_config(card),
        "classifier": (getattr(model, "pretrained_cfg", None) or {}).get("classifier") or "head",
        "architecture": architecture,
        "input_size": input_size,
    }
    arguments: dict[str, Any] = {
        "schedule": card.schedule.model_dump(mode="json"),
        "num_classes": card.num_classes,
        "in_chans": card.in_chans,
    }
    if backbone_geometry(card.backbone).image_size != sides(card.image_size):
        arguments["img_size"] = list(sides(card.image_size))
    config = {"label_names": list(card.class_names)} if card.class_names else {}
    save_for_hf(model, str(path), model_config=config, model_args=arguments, safe_serialization=True)
    (path / "model.safetensors").chmod(0o666 & ~_umask())  # as all other files, not for its owner alone
    schedule = yaml.safe_dump(arguments["schedule"], sort_keys=False)
    (path / "schedule.yaml").write_text(schedule, encoding="utf-8")
    has_picture = _draw(exported, path / PICTURE)
    page = folder_page(card, architecture=architecture, picture=PICTURE if has_picture else None)
    (path / "README.md").write_text(page, encoding="utf-8")


def open(path: Path) -> Run:
    """Load the folder in a fresh process, as a stranger would."""

    def run(images: Tensor) -> tuple[Tensor, ...]:
        with tempfile.TemporaryDirectory() as name:
            given, made = Path(name) / "images.pt", Path(name) / "logits.pt"
            torch.save(images, given)
            command = [sys.executable, "-c", _FRESH, str(path.resolve()), str(given), str(made)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                last = (done.stderr.strip().splitlines() or ["no message"])[-1]
                raise SparseSearchError(f"{path.name} cannot be loaded by timm: {last}")
            logits: Tensor = torch.load(made, weights_only=True)
        return (logits,)

    return run


def _draw(exported: Exported, path: Path) -> bool:
    """Draw which tokens of some images are kept; returns whether there were images."""
    card = exported.card
    if exported.pictures is None or card.preprocessing is None or not card.schedule.steps:
        return False
    own = card.preprocessing
    preprocessing = Preprocessing(card.image_size, card.in_chans, own.mean, own.std, own.interpolation, own.crop_pct)
    names = [""] * len(exported.pictures)
    views = inspect_images(exported.model, exported.pictures, names=names, preprocessing=preprocessing)
    save_kept_tokens(views, path, title=card.backbone)
    return True


def _umask() -> int:
    """The umask of this process, which can only be read by setting it."""
    found = os.umask(0)
    os.umask(found)
    return found

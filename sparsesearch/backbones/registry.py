"""Backbones by name."""

from __future__ import annotations

import difflib
from functools import lru_cache
from typing import Any

import timm
import torch
from timm.models import is_model, model_entrypoint, split_model_name_tag
from torch import nn

from sparsesearch.backbones import models
from sparsesearch.backbones.bundled import BUNDLED, PICO
from sparsesearch.backbones.discovery import modules_of
from sparsesearch.backbones.model_options import ModelOptions
from sparsesearch.backbones.transforms import FAMILIES, SUPPORTED, family_of
from sparsesearch.errors import BackboneError, CheckpointError, one_line
from sparsesearch.schedule.geometry import BackboneGeometry

__all__ = [
    "ALIASES", "BUNDLED", "PICO", "backbone_geometry", "create_model", "geometry", "resolve_name", "supported_models",
]  # fmt: skip

_ALIASED = (*FAMILIES, *modules_of(models))
ALIASES: dict[str, str] = {
    alias: name for module in _ALIASED for alias, name in getattr(module, "ALIASES", {}).items()
} | {name: name for name in BUNDLED}
_FAMILY_OF_MODULE = {module: family for family in FAMILIES for module in family.TIMM_MODULES}
_UNSUPPORTED = tuple(prefix for family in FAMILIES for prefix in getattr(family, "UNSUPPORTED", ()))


def resolve_name(name: str) -> str:
    """Resolve the name of a backbone: `deit_s` becomes `deit_small_patch16_224`.

    Args:
        name: An alias or a timm model name, with or without its pretrained tag.

    Raises:
        BackboneError: The backbone is unknown, or its family is not supported.
    """
    if name in ALIASES:
        return ALIASES[name]
    architecture = split_model_name_tag(name)[0]
    if "/" in name or ":" in name or not is_model(architecture):
        known = [*ALIASES, *timm.list_models()]
        near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
        hint = f"did you mean {', '.join(near)}?" if near else f"try one of {', '.join(ALIASES)}"
        raise BackboneError(f"unknown backbone {name!r}; {hint}")
    if _module_of(name) not in _FAMILY_OF_MODULE:
        raise BackboneError(f"the backbone {name} belongs to a family that cannot be sparsified; {SUPPORTED}")
    return name


def supported_models() -> list[str]:
    """The names of all backbones that can be sparsified, without aliases and pretrained tags."""
    from_timm = [name for name in timm.list_models() if _module_of(name) in _FAMILY_OF_MODULE]
    return [*BUNDLED, *(name for name in from_timm if name not in BUNDLED and not name.startswith(_UNSUPPORTED))]


def _module_of(name: str) -> str:
    return str(model_entrypoint(split_model_name_tag(name)[0]).__module__)


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    pretrained: bool = False,
    seed: int = 0,
) -> nn.Module:
    """Build a dense backbone, in training mode.

    Args:
        name: As in `resolve_name`.
        num_classes: Classes of the head; None for the default of the backbone.
        in_chans: Channels of the image; None for the default of the backbone.
        image_size: Pixels, one number or height and width; None for the default of the backbone.
        pretrained: Load published weights (downloads them on first use).
        seed: Seed of weights that are not loaded. The global random state is not changed.

    Raises:
        BackboneError: The backbone is unknown, unsupported, or cannot be built with these options.
        CheckpointError: Published weights do not exist or are not available.
    """
    resolved = resolve_name(name)
    size = (image_size, image_size) if isinstance(image_size, int) else image_size
    if resolved in BUNDLED:
        if pretrained:
            raise CheckpointError(f"{resolved} has no published weights; load a file, or train from scratch")
        return BUNDLED[resolved].build(
            ModelOptions(num_classes=num_classes, in_chans=in_chans, image_size=size, seed=seed)
        )
    given = {"num_classes": num_classes, "in_chans": in_chans}
    options: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if size is not None:
            if getattr(_FAMILY_OF_MODULE[_module_of(resolved)], "ANY_IMAGE_SIZE", False):
                options["pretrained_cfg_overlay"] = {"input_size": (in_chans or 3, *size)}
            else:
                options["img_size"] = size
        try:
            model: nn.Module = timm.create_model(resolved, pretrained=pretrained, **options)
        except (RuntimeError, OSError) as error:
            if not pretrained:
                raise
            raise CheckpointError(
                f"published weights of {resolved} are not available ({one_line(error)}); "
                "connect to the network, or load a file into a model built with pretrained=False"
            ) from error
    family_of(model).token_geometry(model)
    return model


def geometry(model: nn.Module, name: str) -> BackboneGeometry:
    """The geometry of a model for costs and schedules.

    Args:
        model: Any supported model, sparse or dense, on any device.
        name: Its name; an alias is resolved, any other name is used as it is.

    Raises:
        BackboneError: The model is unsupported or cannot be priced.
    """
    return family_of(model).geometry(model, ALIASES.get(name, name))


@lru_cache(maxsize=64)
def backbone_geometry(
    name: str, *, num_classes: int | None = None, image_size: int | tuple[int, int] | None = None
) -> BackboneGeometry:
    """The geometry of a backbone by name; no weights are allocated.

    Args:
        name: As in `resolve_name`.
        num_classes: As in `create_model`.
        image_size: As in `create_model`.

    Raises:
        BackboneError: The backbone is unknown, unsupported, or cannot be priced.
    """
    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes, image_size=image_size)
    return geometry(model, name)

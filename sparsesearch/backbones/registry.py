"""Backbones by name."""

from __future__ import annotations

from typing import Any

import timm
import torch
from timm.models import is_model, model_entrypoint, split_model_name_tag
from torch import nn

from sparsesearch.backbones import models
from sparsesearch.backbones.bundled import BUNDLED, PICO
from sparsesearch.backbones.discovery import modules_of
from sparsesearch.backbones.lookup import (
    backbone_geometry,
    check_options,
    resolve_name,
    sparsifiable_models,
    supported_models,
)
from sparsesearch.backbones.meta import without_weights
from sparsesearch.backbones.model_options import ModelOptions
from sparsesearch.backbones.transforms import FAMILIES, SUPPORTED, family_of
from sparsesearch.catalog.names import foreign_backbone, timm_name, unknown_backbone, unknown_tag
from sparsesearch.catalog.records import catalog
from sparsesearch.errors import BackboneError, CheckpointError, one_line
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.image_size import ImageSize, sides

__all__ = [
    "ALIASES", "BUNDLED", "PICO", "backbone_geometry", "belongs_to_family", "built_geometry", "create_model",
    "geometry", "is_priced", "is_sparsifiable", "models_with_timm", "resolve_name", "resolve_with_timm",
    "runs_at_any_size", "sparsifiable_models", "supported_models",
]  # fmt: skip

_ALIASED = (*FAMILIES, *modules_of(models))
ALIASES: dict[str, str] = {
    alias: name for module in _ALIASED for alias, name in getattr(module, "ALIASES", {}).items()
} | {name: name for name in BUNDLED}
_FAMILY_OF_MODULE = {module: family for family in FAMILIES for module in family.TIMM_MODULES}
_UNSUPPORTED = tuple(prefix for family in FAMILIES for prefix in getattr(family, "UNSUPPORTED", ()))


def resolve_with_timm(name: str) -> str:
    """As `lookup.resolve_name`, with the models of the installed timm.

    Raises:
        BackboneError: The backbone is unknown, or its family is not supported.
    """
    plain = timm_name(name)
    if plain is None and name in ALIASES:
        return ALIASES[name]
    architecture, tag = split_model_name_tag(name if plain is None else plain)
    if plain is None:
        architecture = ALIASES.get(architecture, architecture)
    if tag and plain is None and architecture in BUNDLED and not is_model(architecture):
        raise unknown_tag(architecture, tag, tags=())
    if "/" in architecture or ":" in architecture or not is_model(architecture):
        raise unknown_backbone(name, known=[*ALIASES, *timm.list_models()], aliases=ALIASES)
    if not is_sparsifiable(architecture):
        raise foreign_backbone(plain or name, supported=SUPPORTED)
    configured = timm.models.get_arch_pretrained_cfgs(architecture)
    tags = [config.partition(".")[2] for config in configured if "." in config]
    if not tag:
        return f"{architecture}.{tags[0]}" if architecture in BUNDLED and tags else architecture
    if tag not in tags:
        raise unknown_tag(architecture, tag, tags=tags)
    return f"{architecture}.{tag}"


def models_with_timm() -> list[str]:
    """As `lookup.sparsifiable_models`, with the models of the installed timm."""
    return [*BUNDLED, *(name for name in timm.list_models() if name not in BUNDLED and belongs_to_family(name))]


def is_priced(name: str) -> bool:
    """Whether the cost of a backbone that can be sparsified is known; one that is not recorded is built."""
    model = catalog().find(name)
    if model is not None and model.refused is None:
        return True
    try:
        built_geometry(name)
    except BackboneError:
        return False
    return True


def is_sparsifiable(name: str) -> bool:
    """Whether a timm model (its name, with or without tag) is defined in a module of a supported family."""
    return _module_of(name) in _FAMILY_OF_MODULE


def belongs_to_family(name: str) -> bool:
    """Whether a bundled backbone or timm model is of a supported family and not one of its unsupported models."""
    return name in BUNDLED or (is_sparsifiable(name) and not name.startswith(_UNSUPPORTED))


def runs_at_any_size(name: str) -> bool:
    """Whether a timm model of a supported family is not built for one image size."""
    return bool(getattr(_FAMILY_OF_MODULE[_module_of(name)], "ANY_IMAGE_SIZE", False))


def _module_of(name: str) -> str:
    return str(model_entrypoint(split_model_name_tag(name)[0]).__module__)


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    image_size: ImageSize | None = None,
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
    size = None if image_size is None else sides(image_size)
    check_options(resolved, num_classes=num_classes, in_chans=in_chans, image_size=size)
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
            if runs_at_any_size(resolved):
                options["pretrained_cfg_overlay"] = {"input_size": (_published_channels(resolved), *size)}
            else:
                options["img_size"] = size
        try:
            model: nn.Module = timm.create_model(resolved, pretrained=pretrained, **options)
        except (RuntimeError, OSError) as error:
            if "allocate memory" in str(error):
                raise BackboneError(f"{resolved} with these options needs more memory than there is") from error
            if not pretrained:
                raise
            raise CheckpointError(
                f"published weights of {resolved} are not available ({one_line(error)}); "
                "connect to the network, or load a file into a model built with pretrained=False"
            ) from error
    if "pretrained_cfg_overlay" in options:
        built: Any = model
        built.pretrained_cfg["input_size"] = (in_chans or _published_channels(resolved), *(size or ()))
    family_of(model).token_geometry(model)
    return model


def _published_channels(name: str) -> int:
    """Channels of the image that a timm model was published for, to which timm compares its weights."""
    config = timm.get_pretrained_cfg(name)
    return 3 if config is None else int(config.input_size[0])


def geometry(model: nn.Module, name: str) -> BackboneGeometry:
    """The geometry of a model for costs and schedules.

    Args:
        model: Any supported model, sparse or dense, on any device.
        name: Its name; an alias is resolved, any other name is used as it is.

    Raises:
        BackboneError: The model is unsupported or cannot be priced.
    """
    return family_of(model).geometry(model, ALIASES.get(name, name))


def built_geometry(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    image_size: ImageSize | None = None,
) -> BackboneGeometry:
    """As `lookup.backbone_geometry`, from a model on the meta device: no weights are allocated.

    Raises:
        BackboneError: The backbone is unknown, unsupported, or cannot be priced.
    """
    with without_weights():
        model = create_model(name, num_classes=num_classes, in_chans=in_chans, image_size=image_size)
    return geometry(model, name)

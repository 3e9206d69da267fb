"""Names and geometries of backbones: the recorded ones (`sparsesearch.catalog`), else from timm and torch.

Importing this module loads neither; they are loaded only for a backbone, or options of one, that is not recorded.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import version

from sparsesearch.catalog.names import recorded_name, unrecorded_backbone
from sparsesearch.catalog.records import catalog, modules_of_backbones
from sparsesearch.errors import BackboneError
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.schedule.image_size import MAX_SIDE, ImageSize, as_image_size, sides

MAX_CLASSES, MAX_CHANNELS = 1_000_000, 4096
"""Classes and channels; more are a mistake, and would only end in a lack of memory."""


def resolve_name(name: str) -> str:
    """Resolve the name of a backbone: `deit_s` becomes `deit_small_patch16_224`.

    Args:
        name: An alias or a timm model name, with or without its pretrained tag; `timm/NAME` and `hf-hub:timm/NAME` are
            timm's even if there is a bundled backbone of the same name.

    Raises:
        BackboneError: The backbone is unknown, or its family is not supported.
    """
    found = recorded_name(name)
    if found is not None:
        return found
    if all_is_recorded():
        raise unrecorded_backbone(name)
    from sparsesearch.backbones.registry import resolve_with_timm

    return resolve_with_timm(name)


def supported_models() -> list[str]:
    """The names of all backbones that can be sparsified and priced, without aliases and pretrained tags."""
    if all_is_recorded():
        return catalog().supported_models
    from sparsesearch.backbones.registry import is_priced

    return [name for name in sparsifiable_models() if is_priced(name)]


def sparsifiable_models() -> list[str]:
    """The names of all backbones that can be sparsified; the cost of some is not known, so they cannot be searched."""
    if all_is_recorded():
        return catalog().sparsifiable_models
    from sparsesearch.backbones.registry import models_with_timm

    return models_with_timm()


def check_options(
    name: str, *, num_classes: int | None, in_chans: int | None, image_size: tuple[int, int] | None
) -> None:
    """Check that the options of a backbone are of a size that can be built.

    Raises:
        BackboneError: One of them is zero, negative or gigantic.
    """
    sides = image_size or ()
    for what, values, least, most in (
        ("image size", sides, 1, MAX_SIDE),
        ("number of classes", () if num_classes is None else (num_classes,), 0, MAX_CLASSES),
        ("number of channels", () if in_chans is None else (in_chans,), 1, MAX_CHANNELS),
    ):
        if any(not least <= value <= most for value in values):
            raise BackboneError(
                f"invalid {what} {'x'.join(map(str, values))} for {name}; choose from {least} to {most:,}"
            )


@lru_cache(maxsize=64)
def backbone_geometry(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int | None = None,
    image_size: ImageSize | None = None,
) -> BackboneGeometry:
    """The geometry of a backbone by name; no weights are allocated.

    Args:
        name: As in `resolve_name`.
        num_classes: Classes of the head; None for the default of the backbone.
        in_chans: Channels of the image; None for the default of the backbone.
        image_size: Pixels, one number or height and width; None for the default of the backbone.

    Raises:
        BackboneError: The backbone is unknown, unsupported, or cannot be priced.
    """
    resolved = resolve_name(name)
    size = None if image_size is None else sides(image_size)
    check_options(resolved, num_classes=num_classes, in_chans=in_chans, image_size=size)
    model = catalog().find(resolved)
    found = None if model is None else model.geometry(image_size=size, num_classes=num_classes, in_chans=in_chans)
    if found is not None:
        return found
    from sparsesearch.backbones.registry import built_geometry

    return built_geometry(resolved, num_classes=num_classes, in_chans=in_chans, image_size=size)


def has_published_weights(name: str) -> bool:
    """Whether there are published weights of a backbone (resolved name)."""
    model = catalog().find(name)
    if model is not None:
        return model.has_weights
    import timm

    from sparsesearch.backbones.bundled import BUNDLED

    config = None if name in BUNDLED else timm.get_pretrained_cfg(name)
    return config is not None and config.has_weights


def own_input(name: str) -> tuple[ImageSize, int]:
    """Height and width in pixels, and channels, of the images that a backbone (resolved name) is made for."""
    model = catalog().find(name)
    if model is not None and model.refused is None:
        return as_image_size(model.image_size), model.in_chans
    import timm

    from sparsesearch.backbones.bundled import BUNDLED

    if name in BUNDLED:
        return BUNDLED[name].image_size, BUNDLED[name].in_chans
    config = timm.get_pretrained_cfg(name)
    return (224, 3) if config is None else (as_image_size(config.input_size[1:]), config.input_size[0])


def own_classes(name: str) -> int:
    """Classes of the head of a backbone (resolved name) by default."""
    model = catalog().find(name)
    if model is not None and model.refused is None:
        return model.num_classes
    from sparsesearch.backbones.meta import without_weights
    from sparsesearch.backbones.registry import create_model

    with without_weights():
        return int(getattr(create_model(name), "num_classes", 0))


def is_small(name: str) -> bool:
    """Whether a backbone (resolved name) is designed for the bundled task."""
    model = catalog().find(name)
    if model is not None:
        return model.is_small
    from sparsesearch.backbones.bundled import BUNDLED

    return name in BUNDLED and BUNDLED[name].is_small


@lru_cache(maxsize=1)
def all_is_recorded() -> bool:
    """Whether the installed timm is the recorded one, and no file with backbones was added."""
    return is_recorded_timm() and modules_of_backbones() == catalog().modules


def is_recorded_timm() -> bool:
    """Whether the installed timm is the one whose models were recorded."""
    return version("timm") == catalog().timm_version

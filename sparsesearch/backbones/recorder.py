"""Records the geometries of all supported models for `sparsesearch.catalog`.

`python -m sparsesearch.backbones.recorder` writes the file that is shipped: names that it lacks are added, and `--all`
records everything anew, which takes a quarter of an hour. Every model is built on the meta device at several image
sizes, and with other numbers of classes and channels; its recorded form is kept only where it reproduces all of these
geometries.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import timm
from timm.models import model_entrypoint
from timm.models.swin_transformer import SwinTransformer

from sparsesearch.backbones.meta import without_weights
from sparsesearch.backbones.registry import ALIASES, BUNDLED, belongs_to_family, create_model, geometry, is_sparsifiable
from sparsesearch.backbones.transforms import SUPPORTED
from sparsesearch.backbones.vit_geometry import StemLayer, stem_layers
from sparsesearch.catalog.closed_form import Size, geometry_at, positions
from sparsesearch.catalog.records import PATH, catalog, modules_of_backbones
from sparsesearch.errors import BackboneError, SparseSearchError
from sparsesearch.schedule.geometry import BackboneGeometry, StageGeometry

SIZES: tuple[Size, ...] = ((1024, 992), (256, 192), (97, 131), (250, 203), (64, 80), (36, 44), (32, 32), (16, 16))
"""Image sizes at which every model is built, in addition to its own."""

_FACTORS = (2, 4, 8, 16, 32)
_LARGEST_FACTOR = 64


@dataclass(frozen=True)
class _Built:
    """One model as built on the meta device."""

    geometry: BackboneGeometry
    stem: list[StemLayer]
    windows: list[int]


def record(name: str) -> dict[str, Any]:
    """The record of one model: its own options, and its form or the reason why it has none.

    Args:
        name: A bundled backbone, or a timm model with or without its pretrained tag.
    """
    found: dict[str, Any] = {"name": name}
    config = None if name in BUNDLED else timm.get_pretrained_cfg(name)
    if config is not None and config.has_weights:
        found["weights"] = True
    if not belongs_to_family(name):
        return found | {"supported": False, "refused": _refusal(name)}
    try:
        own = _build(name)
    except BackboneError as error:
        return found | {"refused": str(error)}
    in_chans = BUNDLED[name].in_chans if name in BUNDLED else config.input_size[0] if config is not None else 3
    num_classes = _num_classes(name)
    found["options"] = [*own.geometry.image_size, num_classes, in_chans]
    if name in BUNDLED:
        found["bundled"] = True
    form = _form(name, own, num_classes=num_classes, in_chans=in_chans)
    return found | ({} if form is None else form)


def tag_record(name: str) -> list[Any]:
    """Image size, classes and whether there are published weights, of a model with a pretrained tag."""
    with without_weights():
        model: Any = create_model(name)
    config = timm.get_pretrained_cfg(name)
    return [*geometry(model, name).image_size, model.num_classes, bool(config is not None and config.has_weights)]


def header() -> dict[str, Any]:
    """What the names of backbones are resolved with."""
    return {
        "timm": timm.__version__,
        "modules": modules_of_backbones(),
        "aliases": ALIASES,
        "supported": SUPPORTED,
        "others": [name for name in models_of_timm() if name not in BUNDLED and not is_sparsifiable(name)],
    }


def models_of_timm() -> list[str]:
    """Names of timm's own models, without those that other packages, or `sparsesearch.timm`, have registered."""
    return [name for name in timm.list_models() if model_entrypoint(name).__module__.startswith("timm.")]


def names_to_record() -> list[str]:
    """Names of the lines of the file, in order: bundled backbones, then timm's models without tag.

    A tagged name is in the list only if the untagged one is a bundled backbone.
    """
    tagged = timm.list_models(pretrained=True)
    shadowed = [tag for tag in tagged if tag.partition(".")[0] in BUNDLED]
    from_timm = [name for name in models_of_timm() if name not in BUNDLED and is_sparsifiable(name)]
    return [*BUNDLED, *shadowed, *from_timm]


def record_with_tags(name: str) -> dict[str, Any]:
    """The record of one line: as `record`, with the options of all pretrained tags of a timm model."""
    found = record(name)
    if name in BUNDLED or "." in name or "refused" in found:
        return found
    own = [*found["options"][:3], found.get("weights", False)]
    tags = [tag for tag in timm.list_models(pretrained=True) if tag.partition(".")[0] == name]
    options = {tag.partition(".")[2]: tag_record(tag) for tag in tags}
    return found | {"tags": {tag: [] if given == own else given for tag, given in options.items()}}


def main() -> None:
    """Write the file: names that it lacks, and those given as arguments, are recorded; `--all` records everything.

    Everything is recorded as well if the file was written with another version of timm.
    """
    asked = sys.argv[1:]
    known = catalog() if PATH.is_file() and "--all" not in asked else None
    if known is not None and known.timm_version != timm.__version__:
        known = None
    lines = [header()]
    for name in names_to_record():
        if known is not None and name in known.names and name not in asked:
            lines.append(dict(known.line(name)))
            continue
        found = record_with_tags(name)
        lines.append(found)
        sys.stderr.write(f"{name}{'' if 'stages' in found or 'refused' in found else ': no form'}\n")
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    PATH.write_text(text, encoding="utf-8")


def _refusal(name: str) -> str:
    try:
        create_model(name)
    except BackboneError as error:
        return str(error)
    raise AssertionError(f"{name} can be built")


def _build(
    name: str, *, image_size: Size | None = None, num_classes: int | None = None, in_chans: int | None = None
) -> _Built:
    with without_weights():
        model: Any = create_model(name, image_size=image_size, num_classes=num_classes, in_chans=in_chans)
    shape = geometry(model, name)
    stem = getattr(model, "stem", None) or model.patch_embed
    windows = []
    if isinstance(model, SwinTransformer):
        layers: Any = model.layers
        windows = [max(stage.blocks[0].window_size) for stage in layers]
    return _Built(shape, stem_layers(stem, shape.image_size, name), windows)


def _num_classes(name: str) -> int:
    with without_weights():
        model: Any = create_model(name)
    return int(model.num_classes)


def _form(name: str, own: _Built, *, num_classes: int, in_chans: int) -> dict[str, Any] | None:
    """The form of a model; None if there is none that reproduces all of its geometries."""
    sized: dict[Size, _Built] = {own.geometry.image_size: own}
    failed: list[Size] = []
    for size in SIZES:
        try:
            sized[size] = _build(name, image_size=size)
        except (SparseSearchError, RuntimeError, AssertionError):
            failed.append(size)
    sides = {side for size in sized for side in size}
    divisor = math.gcd(*sides) if {(97, 131), (250, 203)} & set(failed) else 1
    least = min(side for size in sized for side in size)
    too_small = [min(size) for size in failed if all(side % divisor == 0 for side in size)]
    if too_small:
        least = min(min(size) for size in sized if min(size) > max(too_small))
    scales = [_scale({size: made.geometry.stages[i].grid for size, made in sized.items()}) for i in _stages(own)]
    stem_scales = [_scale({size: made.stem[i].grid for size, made in sized.items()}) for i in range(len(own.stem))]
    if None in scales or None in stem_scales:
        return None
    others = {classes: _build(name, num_classes=classes).geometry for classes in (10, 20)}
    channels = {number: _build(name, in_chans=number) for number in (1, 2)}
    windows = sized[max(sized, key=min)].windows
    per_class = {key: _slope(getattr(others[10], key), getattr(others[20], key), 10) for key in _OF_HEAD}
    per_channel = channels[2].geometry.params - channels[1].geometry.params
    form: dict[str, Any] = {
        "sizes": [least, divisor],
        "stages": [
            _stage(stage, scale, windows[index] if windows else None)
            for index, (stage, scale) in enumerate(zip(own.geometry.stages, scales, strict=True))
        ],
        "stem": _stem_terms(channels[1].stem, channels[2].stem, stem_scales),
        "head": [others[10].head_macs - 10 * per_class["head_macs"], per_class["head_macs"]],
        "params": [0, per_class["params"], per_channel, 0],
    }
    token_terms = [others[10].head_token_macs - 10 * per_class["head_token_macs"], per_class["head_token_macs"]]
    if any(token_terms):
        form["head_token"] = token_terms
    options: dict[str, Any] = {"name": name, "num_classes": num_classes, "in_chans": in_chans}
    _add_params_(form, [made.geometry for made in sized.values()], options)
    wanted = [(made.geometry, options) for made in sized.values()]
    wanted += [(shape, options | {"num_classes": classes}) for classes, shape in others.items()]
    wanted += [(made.geometry, options | {"in_chans": number}) for number, made in channels.items()]
    usable = [(shape, given) for shape, given in wanted if min(shape.image_size) >= least]
    exact = all(geometry_at(form, image_size=shape.image_size, **given) == shape for shape, given in usable)
    return form if exact else None


_OF_HEAD = ("head_macs", "head_token_macs", "params")


def _stages(own: _Built) -> range:
    return range(len(own.geometry.stages))


def _slope(low: int, high: int, run: int) -> int:
    return (high - low) // run


def _scale(grids: dict[Size, Size]) -> list[int] | None:
    """The factors of `positions` that give all grids, powers of two first; None if there are none."""
    bounds = sorted(range(1, _LARGEST_FACTOR + 1), key=lambda bound: (bound & (bound - 1) != 0, bound))
    singles = [[factor] for bound in bounds for factor in (bound, -bound)]
    pairs = [[*pair] for up, down in product(_FACTORS, _FACTORS) for pair in ((up, -down), (-down, up))]
    for scale in (*singles, *pairs):
        if all(positions(size, scale) == grid for size, grid in grids.items()):
            return scale
    return None


def _stage(stage: StageGeometry, scale: Sequence[int] | None, window: int | None) -> dict[str, Any]:
    found = stage.model_dump(mode="json", exclude_defaults=True, exclude={"grid", "mixer_macs", "entry_macs"})
    found["scale"] = scale
    if window is not None:
        found["window"] = window
    elif stage.mixer_macs:
        found["mixer_macs"] = stage.mixer_macs // stage.num_tokens
    if stage.entry_macs:
        found["entry_macs"] = stage.entry_macs // stage.num_tokens
    return found


def _stem_terms(
    one: Iterable[StemLayer], two: Iterable[StemLayer], scales: Iterable[list[int] | None]
) -> list[list[Any]]:
    """Multiply-adds per position and scale: a constant, and a term per channel of the image."""
    totals: dict[tuple[int, ...], tuple[int, int]] = {}
    for first, second, scale in zip(one, two, scales, strict=True):
        per_channel = second.macs - first.macs
        constant, slope = totals.get(tuple(scale or ()), (0, 0))
        totals[tuple(scale or ())] = (constant + first.macs - per_channel, slope + per_channel)
    return [[scale, *terms] for scale, terms in totals.items()]


def _add_params_(form: dict[str, Any], shapes: Sequence[BackboneGeometry], options: dict[str, Any]) -> None:
    """Set the number of parameters and those per token, from geometries that differ in the size of the grid only."""
    own, *others = shapes
    rest = {shape.image_size: shape.params - _params(form, shape, options) for shape in shapes}
    other = next((shape for shape in others if shape.stages[0].num_tokens != own.stages[0].num_tokens), own)
    tokens = own.stages[0].num_tokens - other.stages[0].num_tokens
    per_token = (rest[own.image_size] - rest[other.image_size]) // tokens if tokens else 0
    form["params"][0] = rest[own.image_size] - per_token * own.stages[0].num_tokens
    form["params"][3] = per_token


def _params(form: dict[str, Any], shape: BackboneGeometry, options: dict[str, Any]) -> int:
    """Parameters that the form accounts for already."""
    least, divisor = form["sizes"]
    found = geometry_at(form | {"sizes": [1, 1]}, image_size=shape.image_size, **options)
    assert found is not None, (least, divisor)
    return found.params


if __name__ == "__main__":
    main()

"""Entry points of sparse models for timm's registry: one function of this module for each model name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import (
    generate_default_cfgs,
    get_arch_pretrained_cfgs,
    load_pretrained,
    model_entrypoint,
    register_model,
    resolve_pretrained_cfg,
)
from torch import nn

from sparsesearch.backbones.bundled import BUNDLED
from sparsesearch.backbones.model_options import ModelOptions
from sparsesearch.backbones.registry import geometry, runs_at_any_size, sparsifiable_models
from sparsesearch.backbones.transforms import sparsify_
from sparsesearch.errors import BackboneError, CheckpointError, ScheduleError
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.schedule.image_size import ImageSize, sides
from sparsesearch.timm.feature_maps import feature_maps
from sparsesearch.timm.schedule_argument import ScheduleArgument, parse_schedule

PREFIX = "sparse_"
_FEATURE_OPTIONS = ("out_indices", "output_fmt", "norm", "feature_cls")
_OWN_OPTIONS = ("num_classes", "in_chans", "img_size", "drop_rate", "drop_path_rate")

__all__: list[str] = []  # timm appends each name that it registers
default_cfgs: dict[str, Any] = {}  # timm reads the configuration of each name here


def _entry_point(name: str) -> Callable[..., nn.Module]:
    """Create the function that timm's `create_model` calls for `sparse_<name>`."""

    def build(
        pretrained: bool = False, *, schedule: object = None, features_only: bool = False, **options: Any
    ) -> nn.Module:
        if schedule is None:
            raise ScheduleError(
                f'{PREFIX}{name} needs a schedule; give schedule="best.yaml", schedule="rho=0.7" or a Schedule'
            )
        argument = parse_schedule(schedule)
        argument.check_backbone(name)
        of_features = {key: options.pop(key) for key in _FEATURE_OPTIONS if key in options and features_only}
        saved_args = options.pop("pretrained_model_args", None) or {}
        is_sparse_file = pretrained and "schedule" in saved_args  # of `sparsesearch export --format timm`
        chosen = _with_defaults(name, argument, options)
        dense_weights = pretrained and not is_sparse_file
        make = partial(_own, name) if name in BUNDLED else model_entrypoint(name)
        model: Any = make(dense_weights, **chosen)
        model.pretrained_model_args = saved_args
        if argument.image_size is not None:
            _configure_(model, argument, argument.image_size, options)
        wanted, shape = argument.schedule, geometry(model, name)
        sparsify_(model, paper_schedule(shape, wanted) if isinstance(wanted, float) else wanted)
        if is_sparse_file:
            config, cache = model.pretrained_cfg, options.get("cache_dir")
            load_pretrained(
                model, config, num_classes=model.num_classes, in_chans=chosen.get("in_chans", 3), cache_dir=cache
            )
        return feature_maps(model, shape, **of_features) if features_only else model

    build.__name__ = build.__qualname__ = f"{PREFIX}{name}"
    build.__doc__ = f"A sparse {name}. Takes the options of {name}, and `schedule`: a file, `rho=0.7` or a Schedule."
    return build


def _with_defaults(name: str, argument: ScheduleArgument, options: dict[str, Any]) -> dict[str, Any]:
    """The options of a model; those that a recipe determines and that are not given are the recipe's."""
    found: dict[str, object] = {"num_classes": argument.num_classes, "in_chans": argument.in_chans}
    if name in BUNDLED or not runs_at_any_size(name):
        found["img_size"] = argument.image_size
    return {key: value for key, value in found.items() if value is not None} | options


def _configure_(model: Any, argument: ScheduleArgument, size: ImageSize, options: dict[str, Any]) -> None:
    """Let timm's functions know the input that a recipe determines, where no option overrides it."""
    config = dict(argument.config)
    for option, entries in (("num_classes", ("num_classes", "label_names")), ("in_chans", ("mean", "std"))):
        if options.get(option, getattr(argument, option)) != getattr(argument, option):
            config = {key: value for key, value in config.items() if key not in entries}
    own = model.pretrained_cfg
    sized = {"img_size", "input_size"} & {*options, *(options.get("pretrained_cfg_overlay") or {})}
    height_width = own["input_size"][1:] if sized else sides(size)
    channels = options.get("in_chans") or argument.in_chans or own["input_size"][0]
    model.pretrained_cfg = {**own, **config, "input_size": (channels, *height_width)}


def _own(
    name: str,
    pretrained: bool,
    *,
    pretrained_cfg: Any = None,
    pretrained_cfg_overlay: dict[str, Any] | None = None,
    cache_dir: object = None,
    **options: Any,
) -> nn.Module:
    """Create a dense backbone of this package, with those options of timm models that it supports."""
    if pretrained:
        raise CheckpointError(
            f"{name} has no published weights; give a file as checkpoint_path, or train it with pretrained=False"
        )
    pooling = options.pop("global_pool", None)
    unknown = sorted(options.keys() - _OWN_OPTIONS)
    if unknown:
        raise BackboneError(f"{name} has no option {', '.join(unknown)}; choose from {', '.join(_OWN_OPTIONS)}")
    size = options.pop("img_size", None)
    own_options = ModelOptions(
        image_size=None if size is None else sides(size if isinstance(size, int) else tuple(size)),
        seed=torch.initial_seed() % 2**32,  # like timm models, which are initialized from the global seed
        **options,
    )
    built: Any = BUNDLED[name].build(own_options)
    if pooling not in (None, getattr(built, "global_pool", pooling)):
        raise BackboneError(f"{name} pools by {built.global_pool}, not by {pooling}; leave out global_pool")
    config: Any = resolve_pretrained_cfg(f"{PREFIX}{name}", pretrained_cfg, pretrained_cfg_overlay)
    built.pretrained_cfg = built.default_cfg = config.to_dict()
    model: nn.Module = built
    return model


def _configs(name: str) -> dict[str, Any]:
    """Return timm's configurations of a model: sizes, normalization and published weights, by name and tag."""
    if name not in BUNDLED:
        return {f"{PREFIX}{tagged}": config for tagged, config in get_arch_pretrained_cfgs(name).items()}
    own = BUNDLED[name]
    return {
        f"{PREFIX}{name}": {
            "input_size": (own.in_chans, own.image_size, own.image_size),
            "fixed_input_size": True,
            "crop_pct": 1.0 if own.is_small else 0.875,
            "mean": IMAGENET_DEFAULT_MEAN[: own.in_chans],
            "std": IMAGENET_DEFAULT_STD[: own.in_chans],
            "num_classes": 10 if own.is_small else 1000,
            "classifier": "head",
        }
    }


for _name in sparsifiable_models():
    default_cfgs.update(generate_default_cfgs(_configs(_name)))
    globals()[f"{PREFIX}{_name}"] = register_model(_entry_point(_name))

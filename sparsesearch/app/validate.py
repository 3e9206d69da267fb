"""Validate the document that a user gave, from a file, flags or both: no data, no torch, no network."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from pydantic import BaseModel, ValidationError

from sparsesearch.app.study_request import with_name
from sparsesearch.app.study_space import space_for
from sparsesearch.backbones.lookup import backbone_geometry, own_classes, resolve_name
from sparsesearch.budget.solve import check_budget
from sparsesearch.data.digits import NUM_CLASSES
from sparsesearch.data.input_size import input_size
from sparsesearch.data.source import absolute_source, source_of
from sparsesearch.errors import BudgetError, SparseSearchError, SpecError
from sparsesearch.schedule.image_size import ImageSize
from sparsesearch.space.definition import load_space, space_for_backbone
from sparsesearch.study.spec import Budget, DataSpec, StudySpec
from sparsesearch.study.spec.renamed import renamed
from sparsesearch.training.published_weights import requested_weights
from sparsesearch.training.recipes import AUTO, default_fidelity, for_a_front, preset

_HINTS = {
    "budget": "use 35%, 20%:45%, or the keys unit, low and high",
    "device": "choose auto, cpu, cuda or cuda:0",
    "name": "use at most 80 letters, digits, '.', '_' and '-', starting with a letter or digit",
}


_KEYS_SHOWN, _LONGEST_KEY = 8, 80


def validate(document: Mapping[str, Any]) -> StudySpec:
    """Return the study that a document asks for, if it is possible as far as the document alone tells.

    Names, keys, values and the search space are checked, and that a budget in multiply-adds is feasible. Whether the
    data can be opened, published weights can be downloaded, and a budget in milliseconds is feasible is found by
    `complete` and `resolve`.

    Args:
        document: As in `filled_in`.

    Returns:
        The document with missing keys filled in. Published weights are assumed to be available.

    Raises:
        SpecError: An unknown key (named), a value out of range, or no backbone or budget.
        SpaceError: The space cannot be read, or does not fit the backbone.
        BackboneError: Unknown backbone.
        BudgetError: The budget is infeasible.
        DataError: The data source is not of a known form, or has no order of classes to choose.
    """
    spec = filled_in(document)
    source_of(spec.data)
    backbone = resolve_name(spec.backbone)
    pixels, in_chans = input_size(backbone, spec.data)
    *tried, last = _numbers_of_classes(spec, backbone)
    for num_classes in tried:
        try:
            _check(spec, backbone, num_classes=num_classes, in_chans=in_chans, image_size=pixels)
        except BudgetError:
            continue
        return spec
    _check(spec, backbone, num_classes=last, in_chans=in_chans, image_size=pixels)
    return spec


def filled_in(document: Mapping[str, Any]) -> StudySpec:
    """Fill in missing keys: the space of the backbone, and training phases that suit its weights.

    Paths of data and weights become absolute, so that the study can be resumed from another folder.

    Args:
        document: Part of a `StudySpec` as plain data. Without a name, it is named after its backbone and budget.
            `space` may be the name or path of a space; `fidelity` may have only some of its keys, the rest come from
            the default recipe; `budget` may be `35%` and `data` its source.

    Raises:
        SpecError: An unknown key (named), a value out of range, or no backbone or budget.
        SpaceError: The space cannot be read.
        BackboneError: Unknown backbone.
        DataError: The data source is not of a known form.
    """
    try:
        return _filled_in(document)
    except SparseSearchError as error:  # a missing key hides no misspelled one
        unknown = list(islice(_unknown_keys(document, StudySpec, ()), _KEYS_SHOWN))
        if unknown and unknown[0] not in str(error):
            raise SpecError(f"invalid study document: {'; '.join([*unknown, str(error)])}") from error
        raise


def _filled_in(document: Mapping[str, Any]) -> StudySpec:
    if document.get("backbone") is None:
        raise SpecError("no backbone given; use --backbone deit_s (or deit_pico for the demo)")
    if document.get("budget") is None:
        raise SpecError(
            "no budget given; use --budget-gflops 3.0, --budget 35% (of the dense cost; 20%:45% for a front), or "
            "--budget-ms 2.5"
        )
    filled = with_name(document, taken=())
    backbone = resolve_name(str(filled["backbone"]))
    weights = requested_weights(str(filled.get("weights") or "pretrained"), backbone=backbone)
    filled["weights"] = weights
    if isinstance(filled["budget"], str) and "%" in filled["budget"]:
        filled["budget"] = Budget.parse(filled["budget"], "fraction").model_dump()
    data = filled.get("data")
    if isinstance(data, str):
        filled["data"] = data = {"source": data}
    if isinstance(data, Mapping) and isinstance(data.get("source"), str):
        filled["data"] = {**data, "source": absolute_source(data["source"])}
    try:
        requested = renamed("fidelity", filled.get("fidelity") or {})
    except ValueError as error:
        raise SpecError(f"invalid study document: fidelity: {error}") from error
    if not isinstance(requested, Mapping):
        raise SpecError(f"invalid study document: fidelity must be a mapping, got {requested!r}")
    is_untrained = requested.get("strategy") == "training-free"
    space = filled.get("space")
    if not isinstance(space, Mapping):
        filled["space"] = (
            space_for_backbone(backbone, untrained=is_untrained) if space is None else load_space(str(space))
        ).model_dump()
    source = data.get("source") if isinstance(data, Mapping) else None
    is_demo = not isinstance(source, str) or DataSpec(source=source).is_demo
    recipe = default_fidelity(backbone, weights=weights, is_demo=is_demo)
    budget = filled["budget"]
    is_range = isinstance(budget, Mapping) and budget.get("low") is not None
    if is_range and requested.get("strategy", recipe.strategy) != "finetune":
        recipe = for_a_front(recipe)
    if is_untrained:
        recipe = recipe.model_copy(update={"finalists": 0})
    retrain = requested.get("retrain")
    if isinstance(retrain, Mapping) and isinstance(retrain.get("preset"), str) and retrain["preset"] != AUTO:
        recipe = recipe.model_copy(update={"retrain": preset(retrain["preset"], backbone, weights=weights)})
    filled["fidelity"] = _merged(recipe.model_dump(), requested)
    try:
        return StudySpec.model_validate(filled)
    except ValidationError as error:
        raise SpecError(f"invalid study document: {_describe(error)}") from error


def _numbers_of_classes(spec: StudySpec, backbone: str) -> tuple[int, ...]:
    """Numbers of classes, one of which must make the budget feasible: that of the data, if it is known before.

    The head is a small part of the cost, so that a budget that is infeasible for 1 and for 1000 classes is infeasible.
    """
    return (NUM_CLASSES,) if spec.data.is_demo else (1, max(1000, own_classes(backbone)))


def _check(spec: StudySpec, backbone: str, *, num_classes: int, in_chans: int, image_size: ImageSize) -> None:
    """Check space and budget on a backbone with given options."""
    geometry = backbone_geometry(backbone, num_classes=num_classes, in_chans=in_chans, image_size=image_size)
    space = space_for(spec, geometry)
    if spec.budget.axis == "macs":
        check_budget(geometry, space, budget=spec.budget)


def _describe(error: ValidationError) -> str:
    """Describe each invalid key in one line."""
    lines = []
    found = error.errors()
    for item in found[:_KEYS_SHOWN]:
        where = ".".join(str(part) for part in item["loc"])
        match item["type"]:
            case "extra_forbidden":
                text = f"unknown key{_nearest(item['loc'])}"
            case kind if where in _HINTS and kind != "value_error":
                text = f"invalid value {_short(item['input'])}; {_HINTS[where]}"
            case _:
                text = str(item["msg"]).removeprefix("Value error, ") + f", got {_short(item['input'])}"
        lines.append(f"{where}: {text}")
    more = len(found) - len(lines)
    return "; ".join(lines) + (f"; and {more} more" if more > 0 else "")


def _unknown_keys(document: Mapping[str, Any], kind: type[BaseModel], where: tuple[str, ...]) -> Iterator[str]:
    """Yield a text for each key that a model does not have, whatever else is wrong with the document."""
    for key, value in document.items():
        location = (*where, str(key))
        field = kind.model_fields.get(str(key))
        if field is None:
            yield f"{'.'.join(location)[:_LONGEST_KEY]}: unknown key{_nearest(location)}"
        elif isinstance(value, Mapping) and inspect.isclass(field.annotation):
            try:
                inner = renamed(str(key), value)
            except ValueError:  # older and newer keys that contradict each other: an error of its own
                continue
            if issubclass(field.annotation, BaseModel) and isinstance(inner, Mapping):
                yield from _unknown_keys(inner, field.annotation, location)


def _nearest(location: tuple[int | str, ...]) -> str:
    """Return `; did you mean KEY?` for an unknown key, if a known key has a similar name."""
    kind: Any = StudySpec
    for part in location[:-1]:
        field = kind.model_fields.get(str(part)) if inspect.isclass(kind) and issubclass(kind, BaseModel) else None
        kind = None if field is None else field.annotation
    known = list(kind.model_fields) if inspect.isclass(kind) and issubclass(kind, BaseModel) else []
    near = difflib.get_close_matches(str(location[-1])[:_LONGEST_KEY], known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _merged(base: dict[str, Any], requested: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in requested.items():
        inner = merged.get(key)
        merged[key] = _merged(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged

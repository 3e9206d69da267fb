"""Fit foreign weights to a model: original names, position grids, channels of the image, and heads.

What timm does when it loads published weights is left to timm: the `checkpoint_filter_fn` of the model's module maps
original names and resamples position embeddings, bias tables and patches, `adapt_input_conv` adapts the channels. A
head of another number of classes is left out; which tensors are the head is what `get_classifier` says.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sparsesearch.backbones.load_weights import Comparison, compare_weights, load_weights_
from sparsesearch.backbones.reference_keys import has_sparse_names, new_names, num_predictors, squeezed
from sparsesearch.backbones.weight_changes import (
    BIASES,
    POSITIONS,
    Change,
    adapt_channels_,
    first_convolutions,
    resampled_tensors,
)

_SPARSITY = "sparsity."


@dataclass(frozen=True, eq=False)
class FittedWeights:
    """Weights with the names and shapes of a model, as far as they fit.

    Attributes:
        source: The entry and the file, for messages.
        tensors: Name in the model to tensor.
        comparison: The tensors compared with those of the model.
        total: Number of tensors of the model.
        resampled: Position embeddings, bias tables and patches that were resampled.
        adapted: Convolutions that were adapted to the channels of the image.
        left_out: Names in the file of the tensors that were left out.
        head: Why the head was left out; None if it is loaded, or the model has none.
        names: Name in the model to name in the file, where they differ.
    """

    source: str
    tensors: dict[str, Tensor]
    comparison: Comparison
    total: int
    resampled: tuple[Change, ...]
    adapted: tuple[Change, ...]
    left_out: tuple[str, ...]
    head: str | None
    names: dict[str, str]

    def describe(self) -> str:
        """What is loaded, in one line."""
        parts = [f"{self.source}, {len(self.comparison.loaded)} of {self.total} tensors"]
        for verb, changes in (("resampled", self.resampled), ("adapted", self.adapted)):
            alike: dict[tuple[str, str, str], int] = {}
            for change in changes:
                key = (change.what, change.old, change.new)
                alike[key] = alike.get(key, 0) + 1
            for (what, old, new), count in alike.items():
                parts.append(f"{what if count == 1 else f'{count} {what}s'} {verb} {old} -> {new}")
        if self.head is not None:
            parts.append(f"head left out ({self.head})")
        if self.left_out:
            parts.append(f"{len(self.left_out)} left out that are not part of the model ({self.left_out[0]})")
        return "; ".join(parts)

    def load_into(self, model: nn.Module, *, fix: str = "") -> None:
        """Load the weights into the model that they were fitted to, or one like it.

        Raises:
            CheckpointError: They do not fit.
        """
        load_weights_(
            model,
            self.tensors,
            source=self.source,
            optional=() if self.head is None else head_prefixes(model),
            names=self.names,
            fix=fix,
        )


def fit_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    source: str,
    blocks: Sequence[int] = (),
    outside: Collection[str] = (),
    needs_head: bool = False,
) -> FittedWeights:
    """Fit foreign weights to a model. Nothing is loaded, and what does not fit is in the result.

    Args:
        model: The model, dense or sparse, on any device.
        weights: Name to tensor, without the prefixes of wrappers.
        source: Origin of the weights, for messages.
        blocks: Locations of the predictors of a sparse model, as in `reference_keys.new_names`.
        outside: Names that are left out if the model does not have them.
        needs_head: Whether the head is required, not left out if it does not fit.

    Raises:
        CheckpointError: There are more predictors than blocks.
    """
    expected = model.state_dict()
    tensors = renamed_weights(model, weights, blocks=blocks)
    origins = {id(tensor): name for name, tensor in weights.items()}
    names = {name: origins.get(id(tensor), name) for name, tensor in tensors.items()}
    resampled = tuple(resampled_tensors(model, tensors, weights))
    adapted = tuple(adapt_channels_(model, tensors))
    heads = [name for name in expected if name.startswith(head_prefixes(model))]
    head = None if needs_head else _why_no_head(model, tensors, heads)
    if head is not None:
        tensors = {name: tensor for name, tensor in tensors.items() if not name.startswith(head_prefixes(model))}
    left_out = [name for name in tensors if name not in expected and names.get(name, name) in outside]
    tensors = {name: tensor for name, tensor in tensors.items() if name not in left_out}
    return FittedWeights(
        source=source,
        tensors=tensors,
        comparison=compare_weights(model, tensors, optional=() if head is None else head_prefixes(model), names=names),
        total=len(expected),
        resampled=resampled,
        adapted=adapted,
        left_out=tuple(names.get(name, name) for name in left_out),
        head=head,
        names=names,
    )


def renamed_weights(
    model: nn.Module, weights: Mapping[str, Tensor], *, blocks: Sequence[int] = ()
) -> dict[str, Tensor]:
    """Weights under the names of a model, resampled to its grid; channels and heads are those of the file.

    Args:
        model: As in `fit_weights`.
        weights: As in `fit_weights`.
        blocks: As in `fit_weights`.

    Raises:
        CheckpointError: There are more predictors than blocks.
    """
    tensors = dict(weights)
    if has_sparse_names(weights):
        renamed = new_names(weights, blocks=blocks)
        tensors = {new: squeezed(new, weights[old]) for old, new in renamed.items() if new is not None}
    sparse = {name: tensor for name, tensor in tensors.items() if name.startswith(_SPARSITY)}
    dense = {name: tensor for name, tensor in tensors.items() if name not in sparse}
    return {**_converted_by_timm(model, dense), **sparse}


def head_prefixes(model: nn.Module) -> tuple[str, ...]:
    """Prefixes of the names of a model's classifiers: `head.fc.` of a ConvNeXt, two of a distilled DeiT."""
    any_model: Any = model
    found = any_model.get_classifier()
    heads = [*(found if isinstance(found, tuple) else (found,)), getattr(model, "aux_head", None)]
    return tuple(f"{name}." for name, module in model.named_modules() if any(module is head for head in heads))


def options_of(model: nn.Module, weights: Mapping[str, Tensor]) -> tuple[int | None, int | None]:
    """Classes of the head and channels of the image that weights were made for, None where they do not say.

    Args:
        model: A model of their backbone with any head, on any device.
        weights: As in `fit_weights`; predictors are ignored.
    """
    tensors = renamed_weights(model, {name: tensor for name, tensor in weights.items() if not num_predictors([name])})
    heads = [tensors.get(f"{prefix}weight") for prefix in head_prefixes(model)]
    stems = [tensors.get(f"{name}.weight") for name in first_convolutions(model)]
    classes = next((head.shape[0] for head in heads if head is not None and head.ndim == 2), None)
    return classes or None, next((stem.shape[1] for stem in stems if stem is not None and stem.ndim == 4), None) or None


def _converted_by_timm(model: nn.Module, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names and grids converted by the filter of timm's module, if they are not those of the model already."""
    expected = model.state_dict()

    def num_fitting(named: Mapping[str, Tensor]) -> int:
        return sum(name in expected and tensor.shape == expected[name].shape for name, tensor in named.items())

    convert = _filter_of(model)
    if convert is None or (num_fitting(tensors) == len(tensors) and not _has_grids(tensors)):
        return tensors
    options = {}
    if "adapt_layer_scale" in inspect.signature(convert).parameters:
        options["adapt_layer_scale"] = any(name.endswith("ls1.gamma") for name in expected)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            converted = convert(dict(tensors), model, **options)
    except Exception:  # whatever it cannot convert is reported with its own name and shape
        return tensors
    if num_fitting(converted) < num_fitting(tensors):
        return tensors
    return {
        name: tensor if num_fitting({name: tensor}) else tensors.get(name, tensor) for name, tensor in converted.items()
    }


def _filter_of(model: nn.Module) -> Callable[..., dict[str, Tensor]] | None:
    """Timm's function for the class of a model, or for one that it is derived from."""
    modules = (sys.modules.get(kind.__module__) for kind in type(model).__mro__)
    found = (getattr(module, "checkpoint_filter_fn", None) for module in modules)
    return next((function for function in found if function is not None), None)


def _has_grids(names: Collection[str]) -> bool:
    return any(name.endswith((POSITIONS, BIASES)) for name in names)


def _why_no_head(model: nn.Module, tensors: Mapping[str, Tensor], heads: Sequence[str]) -> str | None:
    """Why the head is left out; None if it fits, or the model has none."""
    expected = model.state_dict()
    if all(name in tensors and tensors[name].shape == expected[name].shape for name in heads):
        return None
    name = next(name for name in heads if name.endswith("weight"))
    found, new = tensors.get(name), expected[name].shape[0]
    if not any(name in tensors for name in heads):
        return "the file has none"
    if found is not None and found.ndim and found.shape[0] != new:
        return f"{found.shape[0]} -> {new} classes"
    return "it is of another shape" if all(name in tensors for name in heads) else "it is incomplete"

"""Load weights into a model, and report everything that does not fit in one message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sparsesearch.errors import CheckpointError

_SHOWN = 3
_COUNTERS = ".num_batches_tracked"
"""Buffers of batch norm that old files lack and that are not used."""


@dataclass(frozen=True)
class Comparison:
    """Weights compared with those that a model has.

    Attributes:
        loaded: Names that can be loaded.
        missing: Names of the model without a weight.
        unknown: Names that the model does not have.
        misshapen: Weights of another shape, each described.
        unusable: Weights whose values cannot be loaded, each described: integers, or NaN and infinite values.
    """

    loaded: tuple[str, ...]
    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    misshapen: tuple[str, ...]
    unusable: tuple[str, ...]

    @property
    def problems(self) -> str:
        """Everything that prevents loading, in part of a line; empty if nothing does."""
        return ", ".join(
            f"{len(found)} {what} ({listed(found)})"
            for what, found in (
                ("missing", self.missing),
                ("unknown", self.unknown),
                ("of another shape", self.misshapen),
                ("unusable", self.unusable),
            )
            if found
        )


def compare_weights(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    optional: Sequence[str] = (),
    names: Mapping[str, str] | None = None,
) -> Comparison:
    """Compare weights with those of a model: names, shapes, types and values.

    Args:
        model: The model.
        weights: Name to tensor, with the names of the model.
        optional: Prefixes of names that may be missing.
        names: Original names of weights that were renamed, for descriptions.
    """
    expected, names = model.state_dict(), names or {}
    loaded, misshapen, unusable = [], [], []
    for name, tensor in expected.items():
        if name not in weights:
            continue
        shown = names.get(name, name)
        if weights[name].shape != tensor.shape:
            misshapen.append(f"{shown} is {_shape_text(weights[name])} instead of {_shape_text(tensor)}")
            continue
        problem = _problem_of_values(weights[name], like=tensor)
        if problem is None:
            loaded.append(name)
        else:
            unusable.append(f"{shown} {problem}")
    missing = [name for name in expected if name not in weights]
    return Comparison(
        loaded=tuple(loaded),
        missing=tuple(name for name in missing if not name.startswith(tuple(optional)) and not _is_counter(name)),
        unknown=tuple(names.get(name, name) for name in weights if name not in expected),
        misshapen=tuple(misshapen),
        unusable=tuple(unusable),
    )


def load_weights_(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    source: str,
    optional: Sequence[str] = (),
    allow_unused: bool = False,
    names: Mapping[str, str] | None = None,
    fix: str = "",
) -> tuple[str, ...]:
    """Load weights into a model in place.

    Args:
        model: The model.
        weights: Name to tensor, with the names of the model.
        source: Origin of the weights, for the error message.
        optional: Prefixes of names that may be missing.
        allow_unused: Whether to ignore names that the model does not have.
        names: Original names of weights that were renamed, for the error message.
        fix: How to fix the problem, for the error message.

    Returns:
        Optional names of the model without a weight; they keep their values.

    Raises:
        CheckpointError: A weight is missing, unknown, or has another shape, a type that cannot be loaded, or NaN or
            infinite values.
    """
    expected = model.state_dict()
    if allow_unused:
        weights = {name: tensor for name, tensor in weights.items() if name in expected}
    problems = compare_weights(model, weights, optional=optional, names=names).problems
    if problems:
        raise CheckpointError(f"{source} does not fit the model; weights: {problems}{fix and f'; {fix}'}")
    model.load_state_dict({name: weights[name] for name in expected if name in weights}, strict=False)
    return tuple(name for name in expected if name not in weights)


def check_finite(model: nn.Module, *, source: str) -> None:
    """Check the weights that other code has loaded into a model.

    Raises:
        CheckpointError: Some are NaN or infinite.
    """
    unusable = compare_weights(model, model.state_dict()).unusable
    if unusable:
        raise CheckpointError(f"{source} cannot be used; weights: {len(unusable)} unusable ({listed(unusable)})")


def listed(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _problem_of_values(tensor: Tensor, *, like: Tensor) -> str | None:
    """Why the values of a tensor cannot be loaded into one of the model; None if they can."""
    if tensor.is_meta:
        return None if like.is_meta else "has no values: it was saved from the meta device"
    if tensor.is_quantized or tensor.layout is not torch.strided or tensor.is_complex():
        return f"is {_type_text(tensor)}; save it as float32"
    if not like.is_floating_point():
        return None
    if not tensor.is_floating_point():
        return f"is {_type_text(tensor)}, not floating-point: quantized weights cannot be loaded"
    finite = torch.isfinite(tensor.to(like.dtype))
    if bool(finite.all()):
        return None
    return f"has NaN or infinite values, {int((~finite).sum()):,} of {tensor.numel():,}"


def _is_counter(name: str) -> bool:
    return name.endswith(_COUNTERS)


def _type_text(tensor: Tensor) -> str:
    kind = str(tensor.dtype).removeprefix("torch.")
    return kind if tensor.layout is torch.strided else f"sparse {kind}"


def _shape_text(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"

"""Load weights into a model, and report all mismatches in one message."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from sparsesearch.errors import CheckpointError

_SHOWN = 3


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
        CheckpointError: A weight is missing, unknown, or has another shape.
    """
    expected, names = model.state_dict(), names or {}
    missing = [name for name in expected if name not in weights]
    required = [name for name in missing if not name.startswith(tuple(optional))]
    misshapen = [
        f"{names.get(name, name)} is {_shape_text(weights[name])} instead of {_shape_text(tensor)}"
        for name, tensor in expected.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    unknown = [] if allow_unused else [names.get(name, name) for name in weights if name not in expected]
    problems = [
        f"{len(found)} {what} ({_listed(found)})"
        for what, found in (("missing", required), ("unknown", unknown), ("of another shape", misshapen))
        if found
    ]
    if problems:
        raise CheckpointError(f"{source} does not fit the model; weights: {', '.join(problems)}{fix and f'; {fix}'}")
    model.load_state_dict({name: weights[name] for name in expected if name in weights}, strict=False)
    return tuple(missing)


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _shape_text(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"

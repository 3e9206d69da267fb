"""Loading weights into a model, with one account of what does not fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor, nn

from sparsesearch.errors import CheckpointError

_SHOWN = 3


class Loaded(NamedTuple):
    """What became of the weights.

    Attributes:
        missing: Names of the model that were allowed to be missing, and were; they keep their values.
        unused: Names of the weights that the model does not have.
    """

    missing: tuple[str, ...]
    unused: tuple[str, ...]


def load_weights_(
    model: nn.Module,
    weights: Mapping[str, Tensor],
    *,
    source: str,
    optional: Sequence[str] = (),
    allow_unused: bool = False,
    names: Mapping[str, str] | None = None,
    fix: str = "",
) -> Loaded:
    """Load weights into a model in place.

    Args:
        model: The model.
        weights: Name to tensor, named as the model names its own.
        source: Where they are from, for the message.
        optional: Prefixes of names that may be missing.
        allow_unused: Whether names that the model does not have are passed over.
        names: What a weight is called where it comes from, if not as in the model, for the message.
        fix: What to do about it, for the message.

    Raises:
        CheckpointError: A weight is missing, unknown, or of another shape.
    """
    wanted, names = model.state_dict(), names or {}
    missing = [name for name in wanted if name not in weights]
    unused = [name for name in weights if name not in wanted]
    required = [name for name in missing if not name.startswith(tuple(optional))]
    misshapen = [
        f"{names.get(name, name)} is {_shape_text(weights[name])} instead of {_shape_text(tensor)}"
        for name, tensor in wanted.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    unknown = [] if allow_unused else [names.get(name, name) for name in unused]
    problems = [
        f"{len(found)} {what} ({_listed(found)})"
        for what, found in (("missing", required), ("unknown", unknown), ("of another shape", misshapen))
        if found
    ]
    if problems:
        raise CheckpointError(f"{source} does not fit the model; weights: {', '.join(problems)}{fix and f'; {fix}'}")
    model.load_state_dict({name: weights[name] for name in wanted if name in weights}, strict=False)
    return Loaded(tuple(missing), tuple(unused))


def _listed(names: Sequence[str]) -> str:
    more = f", and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _shape_text(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "scalar"

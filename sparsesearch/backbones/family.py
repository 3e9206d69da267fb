"""The interface of a model family; the transforms of all families are built on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sparsesearch.backbones.sparsity import Sparsity
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.sparsify.state import SparsityState


class Family(Protocol):
    """One family of models: a module of `backbones/families` with these names, which is found by being there.

    Besides these, a family may have `ALIASES` (short name to name), `UNSUPPORTED` (prefixes of names that belong to the
    timm modules but cannot be sparsified), `ANY_IMAGE_SIZE` (True if its models are not built for one size) and
    `BACKBONES` (models of its own, by name).

    Attributes:
        DESCRIPTION: What it is, for the list of what is supported.
        TIMM_MODULES: Full names of timm's modules whose models are of this family; empty if timm has none.
    """

    DESCRIPTION: str
    TIMM_MODULES: tuple[str, ...]

    def matches(self, model: nn.Module) -> bool:
        """Whether the model belongs to this family."""

    def token_geometry(self, model: nn.Module) -> BackboneGeometry:
        """Stages, blocks and grids, sufficient to resolve schedules but not to price them: all MACs are 0.

        Raises:
            BackboneError: The model belongs to this family but cannot be sparsified.
        """

    def geometry(self, model: nn.Module, name: str) -> BackboneGeometry:
        """The full geometry of a model, for costs and schedules.

        Raises:
            BackboneError: The model has parts that the closed-form cost does not cover.
        """

    def check_step(self, model: Any, step: ResolvedStep) -> None:
        """Check that this model can run a step that is valid for its geometry.

        Raises:
            ScheduleError: The model cannot run the step.
        """

    def new_state(self, model: nn.Module, geometry: BackboneGeometry, generator: torch.Generator) -> SparsityState:
        """Create the state that the modules of a model share."""

    def patch_(self, model: Any, state: SparsityState) -> None:
        """Change the classes of the modules of a model to subclasses with access to the state."""

    def equip_(self, model: nn.Module, sparsity: Sparsity, step: ResolvedStep, *, seed: int) -> None:
        """Build what a step needs in addition to its scorer, unless it exists."""

    def plan_(self, model: nn.Module, sparsity: Sparsity, resolved: tuple[ResolvedStep, ...]) -> None:
        """Set everything in the state that depends on the active steps; plan and probes are already set.

        Raises:
            ScheduleError: Something that the steps need is not attached; nothing was changed.
        """

    def blocks(self, model: nn.Module) -> list[tuple[int, int]]:
        """Stage and block of every block, in order of execution."""

    def block(self, model: Any, stage: int, block: int) -> nn.Module:
        """One block; its first argument are the tokens."""

    def patches(self, model: nn.Module, entering: Tensor) -> Tensor:
        """The patch tokens of the input of a block, `B x N x C` in raster order."""

    def embed(self, model: Any, x_BCHW: Tensor) -> Tensor:
        """Run everything before the first block."""

    def run(self, model: Any, x: Tensor, blocks: Sequence[tuple[int, int]]) -> Tensor:
        """Run consecutive blocks, identified as in `blocks`, each with the layers directly before it."""

    def finish(self, model: Any, x: Tensor) -> Tensor:
        """Run everything after the last block, up to the logits."""

    @property
    def predictor_eps(self) -> float:
        """Epsilon of the layer norm in learned scorers."""


def unpatch_(model: nn.Module) -> None:
    """Restore the original classes of all modules of a model."""
    for module in model.modules():
        base = getattr(type(module), "sparsity_base", None)
        if base is not None:
            module.__class__ = base
            for name in [name for name in module.__dict__ if name.startswith("sparsity_")]:
                del module.__dict__[name]


_CLASSES: dict[tuple[Any, Any], type[nn.Module]] = {}


def change_class_(module: nn.Module, mixin: Any, state: SparsityState, **attributes: Any) -> None:
    """Change the class of a module to a subclass of its class, in place.

    Args:
        module: The module.
        mixin: First base class of the subclass, before the class of the module.
        state: Stored as `sparsity_state`.
        attributes: Additional attributes; their names must start with `sparsity_`, so that `unpatch_` removes them.
    """
    base: Any = type(module)
    if (mixin, base) not in _CLASSES:
        body = {"sparsity_base": base, "__doc__": base.__doc__}
        _CLASSES[mixin, base] = type(f"Sparse{base.__name__}", (mixin, base), body)
    module.__class__ = _CLASSES[mixin, base]
    module.__dict__["sparsity_state"] = state
    module.__dict__.update(attributes)

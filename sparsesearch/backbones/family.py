"""What a family of models has to say for itself, so that the same verbs make all of them sparse."""

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
    """One family of models. A module with these functions is one."""

    def matches(self, model: nn.Module) -> bool:
        """Whether the model is of this family."""

    def token_geometry(self, model: nn.Module) -> BackboneGeometry:
        """Stages, blocks and grids, enough to resolve schedules but not to price them: all MACs are 0.

        Raises:
            BackboneError: A model of this family that cannot be made sparse.
        """

    def geometry(self, model: nn.Module, name: str) -> BackboneGeometry:
        """The whole shape of a model, for costs and schedules.

        Raises:
            BackboneError: The model has parts that the closed form of the cost does not describe.
        """

    def check_step(self, model: Any, step: ResolvedStep) -> None:
        """Refuse a step that resolves against the geometry but that this very model cannot run.

        Raises:
            ScheduleError: It cannot.
        """

    def new_state(self, model: nn.Module, geometry: BackboneGeometry, generator: torch.Generator) -> SparsityState:
        """The state that the modules of a model will share."""

    def patch_(self, model: Any, state: SparsityState) -> None:
        """Change the classes of live modules to subclasses that know the state."""

    def equip_(self, model: nn.Module, sparsity: Sparsity, step: ResolvedStep, *, seed: int) -> None:
        """Build what a step needs besides its scorer, if it is not there yet."""

    def plan_(self, model: nn.Module, sparsity: Sparsity, resolved: tuple[ResolvedStep, ...]) -> None:
        """Tell the state what else follows from the steps in force; plan and probes are set already.

        Raises:
            ScheduleError: Something that the steps need is not attached; nothing was changed.
        """

    def blocks(self, model: nn.Module) -> list[tuple[int, int]]:
        """Stage and block of every block, in order of execution."""

    def block(self, model: Any, stage: int, block: int) -> nn.Module:
        """One block; what it is called with first are its tokens."""

    def patches(self, model: nn.Module, entering: Tensor) -> Tensor:
        """The patch tokens, `B x N x C` in raster order, of what enters a block."""

    def embed(self, model: Any, x_BCHW: Tensor) -> Tensor:
        """Everything in front of the first block."""

    def run(self, model: Any, x: Tensor, blocks: Sequence[tuple[int, int]]) -> Tensor:
        """Blocks that follow each other, as `blocks` names them, with what lies in front of each."""

    def finish(self, model: Any, x: Tensor) -> Tensor:
        """Everything behind the last block, up to the logits."""

    @property
    def predictor_eps(self) -> float:
        """Of the layer norm in learned scorers."""


def unpatch_(model: nn.Module) -> None:
    """Give all modules of a model their own classes back."""
    for module in model.modules():
        base = getattr(type(module), "sparsity_base", None)
        if base is not None:
            module.__class__ = base
            for name in [name for name in module.__dict__ if name.startswith("sparsity_")]:
                del module.__dict__[name]


_CLASSES: dict[tuple[Any, Any], type[nn.Module]] = {}


def change_class_(module: nn.Module, mixin: Any, state: SparsityState, **attributes: Any) -> None:
    """Make a live module an instance of a subclass of its own class.

    Args:
        module: The module.
        mixin: What is mixed in front of its class.
        state: Becomes `sparsity_state`.
        attributes: More attributes; their names start with `sparsity_`, so that `unpatch_` finds them.
    """
    base: Any = type(module)
    if (mixin, base) not in _CLASSES:
        body = {"sparsity_base": base, "__doc__": base.__doc__}
        _CLASSES[mixin, base] = type(f"Sparse{base.__name__}", (mixin, base), body)
    module.__class__ = _CLASSES[mixin, base]
    module.__dict__["sparsity_state"] = state
    module.__dict__.update(attributes)

"""The interface of a model family; the transforms of all families are built on it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from torch import Tensor, nn

from sparsesearch.backbones.sparsity import Sparsity
from sparsesearch.schedule import ResolvedStep
from sparsesearch.schedule.geometry import BackboneGeometry
from sparsesearch.sparsify.call import Call
from sparsesearch.sparsify.model_plan import Plan
from sparsesearch.sparsify.state import SparsityState


class Family(Protocol):
    """One family of models: a module of `backbones/families` with these names, which is found by being there.

    Besides these, a family may have `ALIASES` (short name to name), `UNSUPPORTED` (prefixes of names that belong to the
    timm modules but cannot be sparsified), `ANY_IMAGE_SIZE` (True if its models are not built for one size) and
    `BACKBONES` (models of its own, by name).

    Attributes:
        DESCRIPTION: What it is, for the list of what is supported.
        TIMM_MODULES: Full names of timm's modules whose models are of this family; empty if timm has none.
        CALL: Class of the forward passes of its models.
    """

    DESCRIPTION: str
    TIMM_MODULES: tuple[str, ...]
    CALL: type[Call]

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

    def patch_(self, model: Any, state: SparsityState) -> None:
        """Change the classes of the modules of a model to subclasses that run in a `Call`.

        Raises:
            BackboneError: The model has a forward method of its own, which cannot pass on the call.
        """

    def equip_(self, model: nn.Module, sparsity: Sparsity, step: ResolvedStep, *, seed: int) -> None:
        """Build what a step needs in addition to its scorer, unless it exists."""

    def complete_plan(
        self, model: nn.Module, sparsity: Sparsity, resolved: tuple[ResolvedStep, ...], plan: Plan
    ) -> Plan:
        """Add everything that follows from the active steps to a plan, whose stages, steps and probes are set.

        Raises:
            ScheduleError: Something that the steps need is not attached.
        """

    def blocks(self, model: nn.Module) -> list[tuple[int, int]]:
        """Stage and block of every block, in order of execution."""

    def block(self, model: Any, stage: int, block: int) -> nn.Module:
        """One block; its first argument are the tokens."""

    def patches(self, model: nn.Module, entering: Tensor) -> Tensor:
        """The patch tokens of the input of a block, `B x N x C` in raster order."""

    def embed(self, model: Any, x_BCHW: Tensor) -> Tensor:
        """Run everything before the first block."""

    def run(self, model: Any, x: Tensor, blocks: Sequence[tuple[int, int]], call: Call | None) -> Tensor:
        """Run consecutive blocks, identified as in `blocks`, each with the layers directly before it.

        Args:
            model: The model.
            x: Input of the first of them.
            blocks: The blocks.
            call: The pass that they are part of; None for a dense model.
        """

    def finish(self, model: Any, x: Tensor, call: Call | None) -> Tensor:
        """Run everything after the last block, up to the logits; the call as in `run`."""

    @property
    def predictor_eps(self) -> float:
        """Epsilon of the layer norm in learned scorers."""

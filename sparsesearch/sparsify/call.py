"""A call: one forward pass of a sparse model, with everything that belongs to this pass alone."""

from __future__ import annotations

from typing import Protocol

from torch import nn

from sparsesearch.errors import BackboneError
from sparsesearch.sparsify.model_plan import LocationKey, Plan, PlannedStep
from sparsesearch.sparsify.scorers import TokenScorer
from sparsesearch.sparsify.state import CallOptions, SparsityState
from sparsesearch.sparsify.trace import Trace


class Parts(Protocol):
    """What a call needs of its model."""

    state: SparsityState

    def scorer(self, step: PlannedStep) -> TokenScorer:
        """The scorer of a step that ranks tokens."""

    def fast_path(self, name: str) -> nn.Module:
        """A fast path by name."""


class Call:
    """One forward pass. The model passes it to its blocks; it must not be used for a second pass.

    Args:
        parts: The sparse parts of the model that runs it.
        plan: The plan of the model.
        options: The options of this pass.
        training: Whether the model is in training mode.
        trace: Trace of the pass that this one resumes; None for a new pass.

    Attributes:
        trace: The trace so far.
        masked: Whether tokens are masked instead of gathered.
        teaches: Whether the loss teaches learned scorers.
        checkpoints: Whether blocks are recomputed in the backward pass.

    Raises:
        BackboneError: The mode does not exist.
    """

    trace: Trace

    def __init__(
        self, parts: Parts, plan: Plan, options: CallOptions, *, training: bool, trace: Trace | None = None
    ) -> None:
        if options.mode not in ("gather", "masked"):
            raise BackboneError(f'invalid mode {options.mode!r}; choose "gather" or "masked"')
        self.parts = parts
        self.plan = plan
        self.options = options
        self.training = training
        self.masked = training and options.mode == "masked" and bool(plan.steps)
        self.teaches = training and options.teach and not self.masked
        self.checkpoints = False
        self.trace = self._new_trace() if trace is None else trace

    def _new_trace(self) -> Trace:
        return Trace()

    def steps_at(self, location: LocationKey) -> tuple[PlannedStep, ...]:
        """The steps and probes at a location, in order."""
        return self.plan.steps_at(location, probe=self.options.probe)

    def _publish(self) -> None:
        """Make the trace, which is complete, the last one of the model."""
        if self.options.record or self.options.keep_final_tokens:
            self.parts.state.trace = self.trace

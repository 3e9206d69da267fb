"""Settings of a sparse model: the plan, how to run it, and the trace of the last finished forward pass."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sparsesearch.sparsify.gather import Noise
from sparsesearch.sparsify.model_plan import Plan
from sparsesearch.sparsify.trace import Trace

Mode = Literal["gather", "masked"]


@dataclass(eq=False, kw_only=True)
class CallOptions:
    """Options of a forward pass.

    Attributes:
        generator: Source of the noise in training: a generator, or `Draws`, whose numbers depend on the place of an
            image in the step alone. Evaluation samples nothing.
        mode: Training with gathered tokens, or with masks (DynamicViT). Evaluation always gathers.
        noise: Scale of the logistic noise on scores in gathered training; 0 for deterministic selection.
        probe: Also score, without dropping tokens, at every attached location that has no step.
        record: Keep a trace of scores and indices. Disable for export, where only the logits may leave the graph.
        keep_final_tokens: Also keep the final patch tokens in the trace.
        keep_groups: Also keep in the trace which patches each token represents; requires `record`.
        forced: Decisions by location that replace the samples of masked training, `B x N` zeros and ones each, in
            raster order and, for tokens, before the product with the previous decision.
        counts: Numbers of tokens to keep by location, scalars with gradient, that replace the decisions of masked
            training: the best tokens are kept, the last one in part (`gather.keep_count`).
        teach: Let the gradient of the loss teach learned scorers in gathered training (`sparsify.teaching`), and give
            every parameter of scorers and fast paths a gradient.
    """

    generator: Noise
    mode: Mode = "gather"
    noise: float = 0.0
    probe: bool = False
    record: bool = True
    keep_final_tokens: bool = False
    keep_groups: bool = False
    forced: Mapping[str, Tensor] | None = None
    counts: Mapping[str, Tensor] | None = None
    teach: bool = False


@dataclass(eq=False, kw_only=True)
class SparsityState(CallOptions):
    """Settings of one sparse model, read once at the start of each call and not changed by it.

    A forward pass keeps everything that belongs to it in a `Call`. Passes of several threads do not affect each other;
    only in training they share `generator` unless each call has its own.

    Attributes:
        plan: What the model does differently from the dense model; replaced as a whole by `set_schedule_`.
        frozen: Whether the model was made fit to be served by `freeze_`: inference with the plan, nothing else.
        trace: Trace of the last finished pass, for inspection, if anything was recorded; nothing is computed from it.
            A copy of a model starts with an empty one, as tensors with a gradient history cannot be copied.
    """

    plan: Plan = field(default_factory=Plan)
    trace: Trace = field(default_factory=Trace)
    frozen: bool = False

    def freeze_(self, plan: Plan) -> None:
        """Allow nothing but inference with a plan, which keeps nothing of a pass."""
        plain = CallOptions(generator=torch.Generator(), record=False)
        for each in fields(CallOptions):
            setattr(self, each.name, getattr(plain, each.name))
        self.plan, self.trace, self.frozen = plan, Trace(), True

    def options(self) -> CallOptions:
        """The current options; later changes of the settings do not affect them."""
        return CallOptions(
            generator=self.generator,
            mode=self.mode,
            noise=self.noise,
            probe=self.probe,
            record=self.record,
            keep_final_tokens=self.keep_final_tokens,
            keep_groups=self.keep_groups,
            forced=self.forced,
            counts=self.counts,
            teach=self.teach,
        )

    def plain_options(self, *, training: bool) -> CallOptions:
        """The options of a pass that is given none: in training, learned scorers are taught."""
        options = self.options()
        return replace(options, teach=True) if training else options

    def __getstate__(self) -> dict[str, Any]:
        """Plain values and what can be pickled: a generator would be gone before a spawned process reads its state."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        generator = found["generator"]
        return found | {"generator": (str(generator.device), bytes(generator.get_state().numpy())), "trace": Trace()}

    def __setstate__(self, found: dict[str, Any]) -> None:
        device, state = found["generator"]
        generator = torch.Generator(device)
        generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))
        self.__dict__.update(found | {"generator": generator})

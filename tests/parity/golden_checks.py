"""What the golden tests of all families have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import golden_inputs
import numpy as np
import torch
from torch import Tensor, nn

from sparsesearch.backbones.registry import create_model, geometry
from sparsesearch.backbones.saliency import final_outputs
from sparsesearch.backbones.transforms import restore_, sparsify_
from sparsesearch.papers.schedules import paper_schedule
from sparsesearch.sparsify.trace import StepTrace

TOLERANCE = 3e-5


@cache
def numbers(reference: str) -> Mapping[str, np.ndarray]:
    return golden_inputs.golden(f"golden_{reference}")


def sparse_reference(name: str, reference: str, rho: float) -> nn.Module:
    """A sparse model with golden weights."""
    model = create_model(name)
    shape = geometry(model, name)
    schedule = paper_schedule(shape, rho)
    sparsify_(model, schedule)
    load_ = golden_inputs.load_reference_ if len(shape.stages) == 1 else golden_inputs.load_hierarchical_
    load_(model, golden_inputs.reference_weights(reference), [step.block for step in schedule.steps])
    return model


def dense_reference(name: str, reference: str) -> nn.Module:
    model = sparse_reference(name, reference, 0.7)
    restore_(model)
    return model


@dataclass
class Run:
    """One evaluation: logits, steps, and the output of each block of the sparse stage."""

    rate: float
    logits: Tensor
    steps: Sequence[StepTrace]
    outputs: Mapping[int, Tensor]

    def golden(self, reference: str, key: str) -> np.ndarray:
        return numbers(reference)[f"r{self.rate:g}/{key}"]


def run(model: Any, blocks: Any, images: Tensor, *, rate: float) -> Run:
    outputs: dict[int, Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda _m, _a, y, index=index: outputs.__setitem__(index, y))
        for index, block in enumerate(blocks)
    ]
    logits = model(images)
    for hook in hooks:
        hook.remove()
    return Run(rate, logits, model.sparsity.state.trace.steps, outputs)


def near(actual: Tensor, expected: np.ndarray, tolerance: float = TOLERANCE) -> None:
    np.testing.assert_allclose(np.asarray(actual.detach()), expected, rtol=0, atol=tolerance)


def stats(x: Tensor) -> Tensor:
    flat = x.double().flatten(1)
    return torch.stack((flat.mean(1), flat.std(1, correction=0)), dim=1)


def check_logits(evaluated: Run, reference: str) -> None:
    near(evaluated.logits[:, :16], evaluated.golden(reference, "logits16"))
    near(stats(evaluated.logits), evaluated.golden(reference, "logits_stats"))
    assert evaluated.logits.argmax(1).tolist() == evaluated.golden(reference, "argmax").tolist()


def check_step(evaluated: Run, reference: str, predictor: int) -> None:
    step = evaluated.steps[predictor]
    assert step.kept_BK is not None
    order = step.positions_BN.argsort(dim=1)
    near(step.scores_BN2[..., 0].gather(1, order), evaluated.golden(reference, f"score_{predictor}"))
    assert step.positions_BN.gather(1, order).tolist() == evaluated.golden(reference, f"cand_{predictor}").tolist()
    assert step.kept_BK.shape[1] == evaluated.golden(reference, "n_keep")[predictor]
    kept = evaluated.golden(reference, f"keep_{predictor}")
    assert step.kept_BK.sort(dim=1).values.tolist() == np.sort(kept, axis=1).tolist()


def check_map(evaluated: Run, reference: str, predictor: int, x_BNC: Tensor) -> None:
    near(stats(x_BNC), evaluated.golden(reference, f"feat_{predictor}_stats"))
    near(x_BNC[:, 0, :8], evaluated.golden(reference, f"feat_{predictor}_pos0_8"))
    near(x_BNC[:, 100, :8], evaluated.golden(reference, f"feat_{predictor}_pos100_8"))


def check_masked_training(model: Any, reference: str, rates: Sequence[float]) -> None:
    """The whole forward in training mode, the draw of each predictor replaced by a decision of the given rate."""
    state = model.sparsity.state
    state.mode, state.keep_final_tokens = "masked", True
    state.forced = {
        f"{step.stage}_{step.block}": golden_inputs.forced_decision(p, rate)
        for p, (step, rate) in enumerate(zip(model.sparsity.schedule.steps, rates, strict=True))
    }
    for module in model.modules():  # the published run has no stochastic depth
        if hasattr(module, "drop_prob"):
            module.drop_prob = 0.0
    with torch.no_grad():
        logits = model(golden_inputs.image())
        tokens = final_outputs(model, state.trace)
    golden = {key.split("/")[1]: value for key, value in numbers(reference).items() if key.startswith("train0.7/")}
    near(logits[:, :16], golden["train_logits16"])
    near(stats(logits), golden["train_logits_stats"])
    assert tokens is not None
    assert tokens.shape[0] * tokens.shape[1] == np.prod(golden["train_tokens_shape"][:-1])
    near(stats(tokens), golden["train_tokens_stats"])
    near(tokens[:, 0, :8], golden["train_tokens_first8"])
    near(tokens[:, -1, :8], golden["train_tokens_last8"])
    decisions = [step.decision_BN for step in state.trace.steps]
    assert len(decisions) == 3
    for p, decision in enumerate(decisions):
        near(decision.mean(1), golden[f"train_decision_{p}_mean"], 1e-7)
    if "train_mask_sum" in golden:
        near(decisions[-1].sum(1), golden["train_mask_sum"], 0)


def check_dense(reference: str, logits: Tensor, tokens_BNC: Tensor) -> None:
    near(logits[:, :16], numbers(reference)["dense_logits16"])
    near(stats(logits), numbers(reference)["dense_logits_stats"])
    near(stats(tokens_BNC), numbers(reference)["dense_tokens_stats"])
    near(tokens_BNC[:, 0, :8], numbers(reference)["dense_tokens_first8"])
    near(tokens_BNC[:, -1, :8], numbers(reference)["dense_tokens_last8"])

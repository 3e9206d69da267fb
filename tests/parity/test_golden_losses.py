"""Every loss, its terms and its gradients against the published code's numbers."""

import json

import golden_inputs
import pytest
import torch
from torch.nn import functional

from sparsesearch.sparsify.losses import LossWeights, Outputs, dynamicvit_loss, soft_target_cross_entropy

CASES = json.loads((golden_inputs.GOLDEN / "losses.json").read_text(encoding="utf-8"))["cases"]
VIT_RATIOS = (0.7, 0.7**2, 0.7**3)
STAGE_RATIOS = (0.7, 0.7 - 0.2, 0.7 - 0.4)
WEIGHTS = {
    "vit_mse_hard": LossWeights(),
    "vit_mse_soft": LossWeights(),
    "vit_kl_soft(lvvit)": LossWeights(token_loss="kl"),
    "vit_mse_soft_rw5(deit-b)": LossWeights(ratio=5.0),
    "vit_mse_emptymask": LossWeights(),
    "vit_mse_dynamic": LossWeights(ratio_over_batch=True),
    # The published code divides by 3 however many predictors there are.
    "vit_mse_two_predictors": LossWeights(ratio_divisor=3),
    "convnext_soft": LossWeights(ratio=10.0),
    "swin_soft": LossWeights(ratio=10.0),
}
# family: seeds of student tokens, teacher tokens and first decision; shapes of tokens and of a decision; keep ratios
FAMILIES = {
    "vit": (102, 121, 104, (4, 196, 32), (4, 196), VIT_RATIOS),
    "convnext": (202, 221, 204, (4, 7, 7, 32), (4, 1, 14, 14), STAGE_RATIOS),
    "swin": (302, 321, 304, (4, 49, 32), (4, 196, 1), STAGE_RATIOS),
}


def test_every_case_is_here():
    assert set(WEIGHTS) == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_losses(case):
    family = case.split("_")[0]
    student_seed, teacher_seed, decision_seed, shape, decision_shape, ratios = FAMILIES[family]
    ratios = ratios[:2] if case == "vit_mse_two_predictors" else ratios
    logits = golden_inputs.normal(101, (4, 50), 2.0).requires_grad_()
    tokens = golden_inputs.normal(student_seed, shape).requires_grad_()
    teacher = Outputs(golden_inputs.normal(120, (4, 50), 2.0), golden_inputs.normal(teacher_seed, shape))
    decisions = [
        golden_inputs.bernoulli(decision_seed + i, decision_shape, ratio).requires_grad_()
        for i, ratio in enumerate(ratios)
    ]
    if "soft" in case:
        cls = soft_target_cross_entropy(logits, golden_inputs.normal(112, (4, 50)).softmax(-1))
    else:
        cls = functional.cross_entropy(logits, golden_inputs.integers(111, (4,), 50))
    keep = golden_inputs.bernoulli(103, (4, 196), 0.343) if family == "vit" else None
    if case == "vit_mse_emptymask":
        keep = torch.zeros(4, 196)

    terms = dynamicvit_loss(
        Outputs(logits, tokens),
        teacher,
        cls=cls,
        decisions=decisions,
        keep_ratios=ratios,
        keep_BN=keep,
        weights=WEIGHTS[case],
    )
    terms.total.backward()

    expected = CASES[case]
    assert terms.total.item() == pytest.approx(expected["total"], rel=1e-6)
    assert terms.cls.item() == pytest.approx(expected["cls"], rel=1e-6)
    assert terms.ratio_sum.item() == pytest.approx(expected["ratio_sum"], rel=1e-5)
    assert terms.class_kl.item() == pytest.approx(expected["cls_kl"], rel=1e-6)
    assert terms.token.item() == pytest.approx(expected["token"], rel=1e-6)
    assert logits.grad.norm().item() == pytest.approx(expected["grad_norm_pred"], rel=1e-5)
    if expected["grad_norm_token"] is None:
        assert tokens.grad is None or not tokens.grad.any()
    else:
        assert tokens.grad.norm().item() == pytest.approx(expected["grad_norm_token"], rel=1e-5)
    norms = [decision.grad.norm().item() for decision in decisions]
    assert norms == pytest.approx(expected["grad_norm_decisions"], rel=1e-5)
    first = decisions[0].grad.flatten()[:4].tolist()
    assert first == pytest.approx(expected["grad_decision0_first4"], rel=1e-5)

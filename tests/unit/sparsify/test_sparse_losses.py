import pytest
import torch

from sparsesearch.errors import ShapeError
from sparsesearch.sparsify.losses import (
    LossWeights,
    Outputs,
    class_kl,
    dynamicvit_loss,
    ratio_loss,
    saliency_loss,
    token_kl,
    token_mse,
)


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_ratio_by_hand():
    decisions = [torch.tensor([[1.0, 1, 0, 0], [1, 0, 0, 0]])]
    assert ratio_loss(decisions, [0.5]).item() == pytest.approx((0.0 + 0.25**2) / 2)
    assert ratio_loss(decisions, [0.5], over_batch=True).item() == pytest.approx(0.125**2)
    assert ratio_loss([], []).item() == 0.0
    with pytest.raises(ShapeError, match="1 decisions but 2 keep ratios"):
        ratio_loss(decisions, [0.5, 0.3])


@pytest.mark.parametrize("count", [1, 2, 5])
def test_ratio_term_is_a_mean_over_any_number_of_predictors(count):
    outputs = Outputs(normal(2, 4), normal(2, 6, 3))
    terms = dynamicvit_loss(
        outputs,
        outputs,
        cls=torch.zeros(()),
        decisions=[torch.ones(2, 6)] * count,
        keep_ratios=[0.5] * count,
        keep_BN=None,
        weights=LossWeights(ratio=2.0),
    )
    assert terms.total.item() == pytest.approx(2.0 * 0.25, abs=1e-6)


def test_no_gradient_reaches_the_teacher():
    student, teacher = normal(2, 6, 3, seed=1).requires_grad_(), normal(2, 6, 3).requires_grad_()
    (token_mse(student, teacher) + token_kl(student, teacher) + class_kl(student[:, 0], teacher[:, 0])).backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_token_terms_compare_kept_tokens_only():
    student, teacher = normal(2, 3, 4, seed=1), normal(2, 3, 4)
    keep = torch.tensor([[1.0, 0, 0], [0, 1, 1]])
    chosen = keep.bool()
    expected = ((student[chosen] - teacher[chosen]) ** 2).mean()
    torch.testing.assert_close(token_mse(student, teacher, keep_BN=keep.unsqueeze(-1)), expected)
    torch.testing.assert_close(token_kl(student, teacher, keep_BN=keep), class_kl(student[chosen], teacher[chosen]))
    assert token_mse(student, teacher, keep_BN=torch.zeros(2, 3)).item() == 0.0
    assert token_kl(student, teacher, keep_BN=torch.zeros(2, 3)).item() == 0.0
    with pytest.raises(ShapeError, match="do not match"):
        token_mse(student, teacher[:, :2])


def test_saliency_is_zero_when_scores_are_its_logarithm():
    saliency = normal(3, 8).softmax(-1)
    assert saliency_loss(saliency.log() + 5.0, saliency).item() == pytest.approx(0.0, abs=1e-6)
    assert saliency_loss(normal(3, 8, seed=1), saliency).item() > 0.01


def test_saliency_renormalises_over_tokens_alive():
    saliency = normal(2, 6).softmax(-1)
    positions = torch.tensor([[4, 0, 2], [1, 5, 3]])
    scores = normal(2, 3, seed=1)
    alive = saliency.gather(1, positions)
    target = alive / alive.sum(1, keepdim=True)
    expected = (target * (target.log() - scores.log_softmax(1))).sum(1).mean()
    torch.testing.assert_close(saliency_loss(scores, saliency, positions_BM=positions), expected)


def test_saliency_of_nothing_is_finite():
    scores = normal(2, 4).requires_grad_()
    loss = saliency_loss(scores, torch.zeros(2, 4))
    loss.backward()
    assert loss.isfinite()
    assert scores.grad.isfinite().all()


def test_saliency_refuses_other_tokens():
    with pytest.raises(ShapeError, match="does not fit scores"):
        saliency_loss(torch.zeros(2, 3), torch.zeros(2, 4))

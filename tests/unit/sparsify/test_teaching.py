"""What the loss of a training loop teaches learned scorers in the backward pass."""

import pytest
import torch

from sparsesearch.sparsify.losses import saliency_loss
from sparsesearch.sparsify.teaching import taught, tied


def normal(*shape, seed=0, grad=True):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).requires_grad_(grad)


def gradients(x, score, *, first=0, scale=1.0, weight=None):
    y = taught(x, score, first=first)
    assert torch.equal(y, x)
    weight = normal(*x.shape, seed=2, grad=False) if weight is None else weight
    return torch.autograd.grad((y.tanh() * weight).sum() * scale, (x, score))


@pytest.mark.parametrize("first", [0, 1, 3])
def test_the_gradient_is_that_of_the_saliency_loss(first):
    x, score = normal(4, 9, 5), normal(4, 6, seed=1)
    of_x, of_score = gradients(x, score, first=first)
    weight = normal(4, 9, 5, seed=2, grad=False)
    (plain,) = torch.autograd.grad((x.tanh() * weight).sum(), x)
    assert torch.equal(of_x, plain)
    saliency = (plain * x).sum(-1)[:, first : first + 6].abs().detach()
    loss = saliency_loss(score, saliency) * len(x)  # which is a mean over images
    (expected,) = torch.autograd.grad(loss * saliency.sum(1).mean(), score)
    torch.testing.assert_close(of_score, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(of_score.sum(1), torch.zeros(4), rtol=0, atol=1e-5)


def test_a_feature_map_counts_its_positions_in_raster_order():
    x, score = normal(2, 3, 4, 5), normal(2, 12, seed=1)
    weight = normal(2, 3, 4, 5, seed=2, grad=False)
    of_map, of_score = gradients(x, score, weight=weight)
    flat = gradients(x.detach().flatten(1, 2).requires_grad_(), score, weight=weight.flatten(1, 2))
    assert torch.equal(of_map.flatten(1, 2), flat[0])
    torch.testing.assert_close(of_score, flat[1])


def test_it_scales_with_the_loss():
    """As with a gradient scaler, or a loss divided by the number of accumulated batches."""
    x, score = normal(4, 9, 5), normal(4, 9, seed=1)
    one, many = gradients(x, score)[1], gradients(x, score, scale=1024.0)[1]
    torch.testing.assert_close(many, 1024 * one)


def test_images_without_saliency_teach_nothing():
    x, score = normal(2, 4, 5), normal(2, 4, seed=1)
    weight = normal(2, 4, 5, seed=2, grad=False)
    weight[0] = 0
    of_score = gradients(x, score, weight=weight)[1]
    assert of_score[0].abs().max() == 0
    assert of_score[1].abs().max() > 0
    assert gradients(x, score, weight=torch.zeros(2, 4, 5))[1].abs().max() == 0
    empty = gradients(normal(0, 4, 5), normal(0, 4))
    assert empty[1].shape == (0, 4)


def test_low_precision():
    x, score = normal(2, 4, 5, grad=False).bfloat16().requires_grad_(), normal(2, 4, seed=1)
    of_x, of_score = gradients(x, score, weight=torch.ones(2, 4, 5, dtype=torch.bfloat16))
    assert of_x.dtype == torch.bfloat16
    assert of_score.dtype == torch.float32


def test_scores_follow_the_saliency():
    """Descent on any loss ranks tokens by how much they matter for it."""
    x = normal(1, 6, 3)
    importance = torch.tensor([5.0, 1.0, 4.0, 2.0, 3.0, 0.5])
    score = torch.zeros(1, 6, requires_grad=True)
    optimizer = torch.optim.Adam([score], lr=0.1)
    expected = (importance * x.detach().abs().sum(-1)[0]).argsort()
    for _ in range(200):
        optimizer.zero_grad()
        (taught(x, score).abs().sum(-1) * importance).sum().backward()
        optimizer.step()
    assert torch.equal(score.detach()[0].argsort(), expected)


def test_frozen_scores_are_left_alone():
    x = normal(2, 4, 5)
    assert taught(x, normal(2, 4, seed=1, grad=False)) is x


def test_tied_parameters_get_a_gradient_of_zero():
    used, unused, frozen = (torch.nn.Parameter(normal(3, 3, seed=s, grad=False)) for s in range(3))
    frozen.requires_grad_(False)
    with torch.no_grad():
        unused[0, 0] = torch.nan
    x = used * 2
    y = tied(x, [used, unused, frozen])
    assert torch.equal(y, x)
    y.sum().backward()
    assert torch.equal(used.grad, torch.full((3, 3), 2.0))
    assert torch.equal(unused.grad, torch.zeros(3, 3))
    assert frozen.grad is None
    assert tied(x, [frozen]) is x

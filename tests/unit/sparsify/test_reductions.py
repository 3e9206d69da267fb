"""Reductions against the formulas of their papers, written out in loops."""

import pytest
import torch

from sparsesearch.errors import ShapeError
from sparsesearch.sparsify.reductions import NO_POSITION, fuse, merge, prune


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("num_prefix_tokens", [0, 1, 2, 5])
@pytest.mark.parametrize("num_tokens", [8, 9])
@pytest.mark.parametrize("num_away", [0, 1, 3, 4])
def test_merging(num_tokens, num_away, num_prefix_tokens):
    """Bipartite soft matching of ToMe (arXiv:2210.09461, section 3) for one image, pair by pair."""
    x, metric = drawn(2, num_tokens, 6), drawn(2, num_tokens, 4, seed=1)
    sizes = torch.randint(1, 5, (2, num_tokens), generator=torch.Generator().manual_seed(2)).double()
    first = range(num_prefix_tokens % 2, num_tokens, 2)
    second = [i for i in range(num_tokens) if i not in first]
    reduction = merge(metric, sizes, num_tokens - num_away, num_prefix_tokens=num_prefix_tokens)
    positions = reduction.positions(torch.arange(num_tokens).expand(2, -1))
    for image in range(2):
        edges = []
        for i in first:
            cosines = [torch.cosine_similarity(metric[image, i], metric[image, j], dim=0).item() for j in second]
            best = max(range(len(second)), key=cosines.__getitem__)
            edges.append((cosines[best], i, second[best]))
        edges.sort(reverse=True)
        apart = [i for _, i, _ in edges[num_away:]]
        order = [*(sorted(apart) if num_prefix_tokens else apart), *second]
        assert positions[image].tolist() == order
        for step, owner in enumerate(order):
            members = [owner, *(i for _, i, j in edges[:num_away] if j == owner)]
            size = sum(sizes[image, m] for m in members)
            average = sum(x[image, m] * sizes[image, m] for m in members) / size
            torch.testing.assert_close(reduction.average(x)[image, step], average)
            torch.testing.assert_close(reduction.total(sizes)[image, step], size)


def test_merging_keeps_the_sum_of_what_tokens_stand_for():
    sizes = torch.ones(3, 11)
    metric = drawn(3, 11, 4).float()
    for left in (8, 6):
        reduction = merge(metric, sizes, left, num_prefix_tokens=1)
        sizes, metric = reduction.total(sizes), reduction.average(metric)
    assert sizes.sum(1).tolist() == [11.0, 11.0, 11.0]


def test_more_than_half_cannot_be_merged():
    with pytest.raises(ShapeError, match="at most half"):
        merge(drawn(1, 9, 4), torch.ones(1, 9), 4, num_prefix_tokens=0)


@pytest.mark.parametrize("normalize", [False, True])
def test_fusing(normalize):
    """EViT (arXiv:2202.07800, section 3.3): the fused token is the sum of a_i x_i over the inattentive tokens."""
    x = drawn(2, 7, 3)
    attention = torch.rand(2, 7, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    reduction = fuse(attention, attention, 4, normalize=normalize)
    out = reduction.average(x)
    for image in range(2):
        order = sorted(range(7), key=lambda i: -attention[image, i].item())
        best, rest = order[:3], order[3:]
        fused = sum(attention[image, i] * x[image, i] for i in rest)
        if normalize:
            fused = fused / sum(attention[image, i] for i in rest)
        torch.testing.assert_close(out[image, :3], x[image, best])
        torch.testing.assert_close(out[image, 3], fused, rtol=1e-6, atol=1e-6)
        assert reduction.positions(torch.arange(7).expand(2, -1))[image].tolist() == [*best, NO_POSITION]


def test_fusing_all_into_one():
    x = drawn(1, 4, 3)
    reduction = fuse(torch.ones(1, 4), torch.ones(1, 4), 1, normalize=True)
    torch.testing.assert_close(reduction.average(x)[:, 0], x.mean(1))


def test_fused_token_without_any_weight_is_finite():
    reduction = fuse(torch.arange(4.0)[None], torch.zeros(1, 4), 2, normalize=True)
    assert reduction.average(drawn(1, 4, 3)).isfinite().all()


def test_a_gradient_reaches_the_weights_of_the_fused_token():
    weight = torch.rand(1, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    fuse(weight, weight, 3, normalize=True).average(drawn(1, 5, 2).float())[:, -1].sum().backward()
    assert (weight.grad != 0).sum() == 3


def test_pruning_keeps_the_best_in_order():
    reduction = prune(torch.tensor([[0.1, 3.0, -1.0, 2.0]]), 2)
    assert reduction.index_BK.tolist() == [[1, 3]]
    assert reduction.total(torch.tensor([[5.0, 6.0, 7.0, 8.0]])).tolist() == [[6.0, 8.0]]

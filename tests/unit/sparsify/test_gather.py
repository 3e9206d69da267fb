import pytest
import torch

from sparsesearch.errors import ShapeError
from sparsesearch.sparsify.gather import (
    gather_tokens,
    gumbel_keep,
    keep_count,
    logistic_noise,
    masked_softmax,
    noisy_scores,
    select_tokens,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_gather_takes_whole_rows_in_order(dtype):
    x = torch.arange(2 * 4 * 3, dtype=dtype).reshape(2, 4, 3)
    out = gather_tokens(x, torch.tensor([[2, 0], [3, 3]]))
    assert out.dtype == dtype
    assert torch.equal(out, torch.stack((x[0, [2, 0]], x[1, [3, 3]])))


def test_gather_sends_gradient_to_kept_tokens_only():
    x = torch.randn(2, 4, 3, generator=seeded(), requires_grad=True)
    gather_tokens(x, torch.tensor([[2, 0], [3, 1]])).sum().backward()
    assert x.grad[..., 0].tolist() == [[1, 0, 1, 0], [0, 1, 0, 1]]


@pytest.mark.parametrize("index", [torch.zeros(3, 2, dtype=torch.long), torch.zeros(2, 5, dtype=torch.long)])
def test_gather_refuses_a_wrong_shape(index):
    with pytest.raises(ShapeError, match="do not fit"):
        gather_tokens(torch.zeros(2, 4, 3), index)


def test_masked_softmax_with_everything_kept_is_softmax():
    logits = torch.randn(2, 3, 5, 5, generator=seeded())
    torch.testing.assert_close(masked_softmax(logits, torch.ones(2, 5)), logits.softmax(-1), rtol=0, atol=1e-6)


def test_masked_softmax_hides_dropped_tokens_from_all_but_themselves():
    logits = torch.randn(1, 1, 4, 4, generator=seeded())
    out = masked_softmax(logits, torch.tensor([[1.0, 0.0, 1.0, 0.0]]))[0, 0]
    torch.testing.assert_close(out.sum(-1), torch.ones(4))
    assert out[0, 1] < 1e-6
    assert out[2, 3] < 1e-6
    assert out[1, 1] > 1e-3
    expected = logits[0, 0, 0, [0, 2]].softmax(-1)
    torch.testing.assert_close(out[0, [0, 2]], expected, rtol=0, atol=1e-5)


def test_masked_softmax_gives_the_dtype_back():
    assert masked_softmax(torch.zeros(1, 1, 3, 3, dtype=torch.bfloat16), torch.ones(1, 3)).dtype == torch.bfloat16


def test_masked_softmax_survives_large_scores_on_dropped_keys():
    logits = torch.zeros(1, 1, 3, 3)
    logits[..., 2] = 1e4
    assert masked_softmax(logits, torch.tensor([[1.0, 1.0, 0.0]])).isfinite().all()


def test_masked_softmax_refuses_a_wrong_policy():
    with pytest.raises(ShapeError, match="does not fit attention"):
        masked_softmax(torch.zeros(2, 1, 3, 3), torch.ones(2, 4))


def test_select_takes_the_best_in_order():
    scores = torch.tensor([[0.1, 0.9, 0.5], [3.0, 1.0, 2.0]])
    assert select_tokens(scores, 2).tolist() == [[1, 2], [0, 2]]
    assert select_tokens(scores, 0).shape == (2, 0)
    with pytest.raises(ShapeError, match="cannot keep 4 of 3"):
        select_tokens(scores, 4)


def test_noise_changes_the_choice_reproducibly():
    scores = torch.zeros(4, 50)
    first = select_tokens(noisy_scores(scores, scale=1.0, generator=seeded(1)), 10)
    assert torch.equal(first, select_tokens(noisy_scores(scores, scale=1.0, generator=seeded(1)), 10))
    assert not torch.equal(first, select_tokens(noisy_scores(scores, scale=1.0, generator=seeded(2)), 10))
    assert torch.equal(noisy_scores(scores, scale=0.0, generator=seeded(1)), scores)


def test_noise_is_standard_logistic():
    noise = logistic_noise((200_000,), generator=seeded(), device=torch.device("cpu"))
    assert noise.isfinite().all()
    assert abs(noise.mean()) < 0.02
    assert noise.std() == pytest.approx(torch.pi / 3**0.5, rel=0.01)


def test_gumbel_keeps_with_the_given_probability():
    scores = torch.tensor([0.3, 0.7]).log().expand(1, 100_000, 2)
    decision = gumbel_keep(scores, generator=seeded())
    assert set(decision.unique().tolist()) == {0.0, 1.0}
    assert decision.mean() == pytest.approx(0.3, abs=0.01)


def test_gumbel_gradient_is_straight_through():
    odds = torch.tensor([[1.5, -0.5]], requires_grad=True)
    scores = torch.stack((odds, torch.zeros(1, 2)), dim=-1).log_softmax(-1)
    forced = torch.tensor([[0.0, 1.0]])
    decision = gumbel_keep(scores, forced_BN=forced)
    assert torch.equal(decision, forced)
    decision.sum().backward()
    soft = odds.detach().sigmoid()
    torch.testing.assert_close(odds.grad, soft * (1 - soft))


def test_gumbel_needs_noise_or_a_decision_of_the_right_shape():
    with pytest.raises(ValueError, match="requires a generator"):
        gumbel_keep(torch.zeros(1, 2, 2))
    with pytest.raises(ShapeError, match="does not fit scores"):
        gumbel_keep(torch.zeros(1, 2, 2), forced_BN=torch.zeros(1, 3))


@pytest.mark.parametrize("count", [0.0, 0.3, 1.0, 2.5, 4.75, 6.0])
def test_a_count_is_met_by_the_best_tokens(count):
    score = torch.randn(3, 6, generator=seeded())
    decision = keep_count(score, torch.tensor(count))
    torch.testing.assert_close(decision.sum(1), torch.full((3,), count))
    for row, order in zip(decision, score.argsort(dim=1, descending=True), strict=True):
        assert row[order].tolist() == sorted(row.tolist(), reverse=True)
        assert sum(0.0 < value < 1.0 for value in row.tolist()) <= 1


def test_nothing_that_was_dropped_comes_back():
    score, before = torch.randn(4, 8, generator=seeded()), torch.tensor([1.0, 0.0, 0.5, 1.0, 0.0, 1.0, 1.0, 0.25])
    for count in (0.5, 2.0, 3.4, 4.75):
        decision = keep_count(score, torch.tensor(count), before.expand(4, -1))
        assert (decision <= before).all()
        torch.testing.assert_close(decision.sum(1), torch.full((4,), count))
    everything = keep_count(score, torch.tensor(7.0), before.expand(4, -1))
    assert torch.equal(everything, before.expand(4, -1))


def test_the_gradient_of_a_count_is_that_of_the_tokens_around_the_last():
    score = torch.arange(40.0).flip(0).expand(2, -1)
    count = torch.tensor(20.0, requires_grad=True)
    worth = torch.zeros(2, 40)
    worth[:, 19:21] = 1.0  # the last that is kept and the first that is not
    (keep_count(score, count) * worth).sum().backward()
    near = float(count.grad)
    count.grad = None
    (keep_count(score, count) * torch.roll(worth, 10, dims=1)).sum().backward()
    assert near > 0.2
    assert float(count.grad) < 0.1 * near

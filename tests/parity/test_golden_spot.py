"""SPOT's six attention statistics against numbers computed with plain loops in float64."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch

from sparsesearch.schedule.methods import ATTENTION_STATISTICS, SpotScorer
from sparsesearch.sparsify.attention import Captures, attend, attention_statistics
from sparsesearch.sparsify.gather import masked_softmax
from sparsesearch.sparsify.predictors import SpotPredictor
from sparsesearch.sparsify.reductions import Pruned
from sparsesearch.sparsify.scorers import Seen

TOLERANCE = 1e-6


@cache
def numbers():
    with np.load(Path(__file__).parent / "golden" / "golden_attention_stats.npz") as stored:
        return {name: stored[name] for name in stored}


def tensor(name):
    return torch.from_numpy(np.asarray(numbers()[name])).float()


def unscaled(statistics):
    """As in the paper: means and variances are over N numbers, ours are multiplied by N and N squared."""
    values = statistics.values_BNHF.transpose(1, 2)
    count = values.shape[2]
    scale = [count**2 if name.endswith("var") else count for name in ATTENTION_STATISTICS]
    return values / torch.tensor(scale, dtype=values.dtype)


def near(actual, expected):
    np.testing.assert_allclose(actual.numpy(), expected, rtol=0, atol=TOLERANCE)


def of_map(attention):
    return attention_statistics(attention, num_prefix_tokens=1, has_class_token=True)


@pytest.mark.parametrize("number", range(6))
def test_statistics(number):
    found = unscaled(of_map(tensor("attn")))
    near(found[..., number], numbers()[ATTENTION_STATISTICS[number]])
    near(found[..., number], numbers()["stacked"][..., number])


def test_spot_check():
    expected = [0.0437615939, 0.0273478074, 0.0607907620, 0.0009280314, 0.0683861474, 0.0025540813]
    near(unscaled(of_map(tensor("attn")))[0, 0, 0], expected)


@pytest.mark.parametrize("name", ["row_var", "col_var"])
def test_sample_variance(name):
    statistics = of_map(tensor("attn"))
    sample = unscaled(statistics)[..., ATTENTION_STATISTICS.index(name)] * statistics.bessel_B[:, None, None]
    near(sample, numbers()[f"{name}_sample"])


def test_history_is_gathered():
    kept = torch.from_numpy(numbers()["keep_idx"])
    values = unscaled(of_map(tensor("attn"))).transpose(1, 2)
    gathered = Pruned(kept).average(values.flatten(2)).reshape(2, -1, 3, 6).transpose(1, 2)
    for number, name in enumerate(ATTENTION_STATISTICS):
        near(gathered[..., number], numbers()[f"history_{name}"])


def test_statistics_behind_a_cut():
    found = unscaled(of_map(tensor("pruned_attn")))
    for number, name in enumerate(ATTENTION_STATISTICS):
        near(found[..., number], numbers()[f"pruned_{name}"])


def test_masked_maps_give_the_same_on_kept_tokens():
    """Without the policy softmax's own epsilon, which by itself moves an attention value by up to 2e-6."""
    kept = torch.from_numpy(numbers()["keep_idx"])
    policy = torch.zeros(2, 16).scatter_(1, kept, 1.0)
    attention = masked_softmax(tensor("logits"), torch.cat((torch.ones(2, 1), policy), dim=1), eps=0.0)
    statistics = attention_statistics(attention, num_prefix_tokens=1, has_class_token=True, policy_BN=policy)
    values = statistics.values_BNHF.gather(1, kept[:, :, None, None].expand(-1, -1, 3, 6)).transpose(1, 2)
    count = kept.shape[1]
    for number, name in enumerate(ATTENTION_STATISTICS):
        scale = count**2 if name.endswith("var") else count
        near(values[..., number] / scale, numbers()[f"pruned_{name}"])


@pytest.mark.parametrize("num_tokens", [17, 197])
def test_attention_with_statistics_is_attention(num_tokens):
    """Head by head with many tokens, all heads at once with few: the same numbers either way, and those of SDPA."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, 3, num_tokens, 8, generator=generator) for _ in range(3))
    options = {"scale": 0.35, "num_prefix_tokens": 1, "has_class_token": True}
    noted = attend(q, k, v, captures=Captures(statistics=True, class_row=True), **options)
    plain = attend(q, k, v, captures=Captures(class_row=True), **options)
    torch.testing.assert_close(noted.y_BHTD, plain.y_BHTD, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(noted.notes.class_row_BN, plain.notes.class_row_BN, rtol=1e-5, atol=1e-6)
    expected = of_map((q * 0.35 @ k.transpose(-2, -1)).softmax(-1))
    torch.testing.assert_close(noted.statistics.values_BNHF, expected.values_BNHF, rtol=1e-4, atol=1e-5)


def test_rows_sum_to_one():
    """row_mean = (1 - cls_in) / N, the mean of row_mean is that of col_mean, and sum of cls_out = 1 - A[0, 0]."""
    attention = tensor("attn")
    found = dict(zip(ATTENTION_STATISTICS, unscaled(of_map(attention)).unbind(-1), strict=True))
    near(found["row_mean"], ((1 - found["cls_in"]) / 16).numpy())
    near(found["row_mean"].mean(-1), found["col_mean"].mean(-1).numpy())
    near(found["cls_out"].sum(-1), (1 - attention[:, :, 0, 0]).numpy())


@pytest.mark.parametrize(("options", "width"), [
    ({}, 2 * 3 * 6), ({"heads": "mean"}, 2 * 6), ({"statistics": ("cls_in", "row_var")}, 2 * 3 * 2),
])  # fmt: skip
def test_what_enters_the_predictor(options, width):
    scorer = SpotScorer(**options)
    predictor = SpotPredictor(
        8, scorer, num_statistics=width, has_class_token=True, generator=torch.Generator().manual_seed(0)
    )
    layer = of_map(tensor("attn"))
    scores = predictor(torch.randn(2, 16, 8), Seen(statistics=(layer, layer)))
    assert scores.shape == (2, 16, 2)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(2, 16))

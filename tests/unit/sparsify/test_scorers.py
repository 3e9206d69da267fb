import pytest
import torch

from sparsesearch.errors import ShapeError
from sparsesearch.schedule.methods import DynamicVitScorer, NormScorer, RandomScorer
from sparsesearch.sparsify.scorers import Seen, build_control, build_predictor


def tokens(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def test_predictor_gives_log_probabilities():
    scores = build_predictor(DynamicVitScorer(), dim=48, name="0_1")(tokens(2, 9, 48), Seen())
    assert scores.shape == (2, 9, 2)
    torch.testing.assert_close(scores.exp().sum(-1), torch.ones(2, 9))


def test_predictor_names_are_those_of_the_published_code():
    keys = set(build_predictor(DynamicVitScorer(), dim=48, name="0_1").state_dict())
    inner = ("in_conv.0", "in_conv.1", "out_conv.0", "out_conv.2", "out_conv.4")
    assert keys == {f"{name}.{kind}" for name in inner for kind in ("weight", "bias")}


def test_predictor_weights_depend_on_seed_and_place_only():
    state = torch.get_rng_state()
    first = build_predictor(DynamicVitScorer(), dim=48, name="0_1", seed=3).state_dict()
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    again = build_predictor(DynamicVitScorer(), dim=48, name="0_1", seed=3).state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    for other in ({"name": "0_2", "seed": 3}, {"name": "0_1", "seed": 4}):
        different = build_predictor(DynamicVitScorer(), dim=48, **other).state_dict()
        assert not torch.equal(first["in_conv.1.weight"], different["in_conv.1.weight"])


def test_predictor_starts_as_published():
    predictor = build_predictor(DynamicVitScorer(), dim=192, name="0_1")
    assert predictor.in_conv[0].eps == 1e-5
    assert predictor.in_conv[1].weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert predictor.in_conv[1].bias.abs().max() == 0


def test_predictor_ignores_dropped_tokens_in_its_global_half():
    predictor = build_predictor(DynamicVitScorer(), dim=16, name="0_1")
    with torch.no_grad():
        for parameter in predictor.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    x = tokens(2, 6, 16)
    policy = torch.tensor([[1.0, 1, 1, 0, 0, 0]]).expand(2, -1)
    masked = predictor(x, Seen(policy_BN=policy))
    torch.testing.assert_close(masked[:, :3], predictor(x[:, :3], Seen()))
    assert not torch.allclose(masked[:, :3], predictor(x, Seen())[:, :3], atol=1e-4)
    torch.testing.assert_close(predictor(x, Seen(policy_BN=torch.ones(2, 6))), predictor(x, Seen()))


def test_norm_ranks_by_length():
    scores = build_control(NormScorer(), num_tokens=3)(torch.tensor([[[3.0, 4.0], [0.0, 1.0], [0.0, 2.0]]]), Seen())
    assert scores[..., 0].tolist() == [[5.0, 1.0, 2.0]]
    assert scores[..., 1].tolist() == [[0.0, 0.0, 0.0]]


def test_random_order_belongs_to_positions_not_to_images():
    scorer = build_control(RandomScorer(seed=5), num_tokens=8)
    everything = scorer(tokens(2, 8, 4), Seen())[..., 0]
    assert torch.equal(everything[0], everything[1])
    assert sorted(everything[0].tolist()) == list(range(8))
    positions = torch.tensor([[6, 1, 3], [0, 7, 2]])
    part = scorer(tokens(2, 3, 4), Seen(positions_BN=positions))[..., 0]
    assert torch.equal(part, everything.gather(1, positions))
    other = build_control(RandomScorer(seed=6), num_tokens=8)(tokens(2, 8, 4), Seen())[..., 0]
    assert not torch.equal(other, everything)


def test_random_order_of_some_tokens_needs_their_positions():
    with pytest.raises(ShapeError, match="positions are required"):
        build_control(RandomScorer(), num_tokens=8)(tokens(2, 3, 4), Seen())

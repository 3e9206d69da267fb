"""Random numbers that depend on the place of an image in a step alone."""

import pytest
import torch

from sparsesearch.seeds import derive_seed
from sparsesearch.sparsify.draws import Draws

CPU = torch.device("cpu")


def splitmix64(seed, number):
    """The published generator, in integers of any size."""
    word = (seed + number * 0x9E3779B97F4A7C15) % 2**64
    word = ((word ^ (word >> 30)) * 0xBF58476D1CE4E5B9) % 2**64
    word = ((word ^ (word >> 27)) * 0x94D049BB133111EB) % 2**64
    return word ^ (word >> 31)


def test_the_generator_is_the_published_one():
    seed = derive_seed(1, "noise")
    expected = [((splitmix64(seed, number) >> 40) + 0.5) / 2**24 for number in range(1, 301)]
    found = Draws(1).uniform((3, 100), device=CPU, purpose="noise")
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-7)


def test_its_first_numbers_for_seed_0():
    assert [splitmix64(0, number) for number in (1, 2)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4]


@pytest.mark.parametrize("shape", [(12,), (12, 7), (12, 3, 5)])
@pytest.mark.parametrize("first", [0, 1, 5, 11])
def test_an_image_has_its_numbers_wherever_it_is_computed(shape, first):
    draws = Draws(3, 17)
    whole = [draws.uniform(shape, device=CPU) for _ in range(2)]
    part = draws.at(first)
    for numbers in whole:
        assert torch.equal(part.uniform((shape[0] - first, *shape[1:]), device=CPU), numbers[first:])


def test_chosen_images_have_the_numbers_of_all():
    rows = torch.tensor([4, 1, 7])
    whole = Draws(3).at(2).uniform((9, 3, 5), device=CPU, purpose="noise")
    assert torch.equal(Draws(3).at(2).uniform((3, 3, 5), device=CPU, purpose="noise", rows=rows), whole[rows])


def test_they_are_uniform_and_differ_between_draws_and_steps():
    draws = Draws(0, 1)
    numbers = [draws.uniform((500, 196), device=CPU), draws.uniform((500, 196), device=CPU)]
    numbers.append(Draws(0, 2).uniform((500, 196), device=CPU))
    for found in numbers:
        assert 0 < found.min() < found.max() < 1
        assert found.mean().item() == pytest.approx(0.5, abs=0.004)
        assert found.var().item() == pytest.approx(1 / 12, rel=0.01)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        both = torch.stack([numbers[one].flatten(), numbers[other].flatten()])
        assert abs(torch.corrcoef(both)[0, 1].item()) < 0.02


def test_what_all_images_share_depends_on_the_step_and_not_on_the_image():
    assert Draws(0, 1, first=3).generator("schedules").random() == Draws(0, 1).generator("schedules").random()
    assert Draws(0, 1).generator("schedules").random() != Draws(0, 2).generator("schedules").random()

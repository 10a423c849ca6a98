import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poise.attacks.draws import Draws

seeds = st.integers(0, 2**62)


def test_the_stream_is_that_of_its_source() -> None:
    # SplitMix64 of seed 0 gives 0xE220A8397B1DCDAF first, 0x6E789E6AA1B965F4 second: their upper 24 bits
    drawn = Draws(torch.tensor([0])).uniform(2)
    assert drawn.mul(2**24).tolist() == [[0xE220A8, 0x6E789E]]


@settings(max_examples=20, deadline=None)
@given(seed=seeds, order=st.permutations(range(6)))
def test_an_example_draws_the_same_in_any_batch_and_order(seed: int, order: list[int]) -> None:
    rows = torch.tensor(order)
    index = torch.arange(10, 16)
    whole = Draws.of(seed, index).named("noise", 3)
    part = Draws.of(seed, index[rows]).named("noise", 3)
    assert torch.equal(part.uniform(5), whole.uniform(5)[rows])
    assert torch.equal(whole.rows(rows[:2]).normal(5), part.normal(5)[:2])
    assert torch.equal(whole.uniform(3, first=2), whole.uniform(5)[:, 2:])


def test_seed_name_and_position_each_give_another_stream() -> None:
    index = torch.arange(50)
    streams = [
        Draws.of(0, index),
        Draws.of(1, index),
        Draws.of(0, index).named("a"),
        Draws.of(0, index).named("a", 1),
        Draws.of(0, index).named("a").named("a"),
    ]
    drawn = torch.cat([stream.uniform(4) for stream in streams])
    assert len(drawn.unique(dim=0)) == 250


def test_numbers_are_distributed_as_they_should_be() -> None:
    draws = Draws.of(7, torch.arange(2000)).named("test")
    uniform, normal, signs = draws.uniform(100), draws.normal(100), draws.signs(100)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    # five standard deviations of a mean of 200 000
    assert abs(uniform.mean() - 0.5) < 5 * 12**-0.5 / 447
    assert abs(normal.mean()) < 5 / 447
    assert abs(normal.square().mean() - 1) < 5 * 2**0.5 / 447
    assert abs(signs.mean()) < 5 / 447
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    between = torch.corrcoef(normal.T) - torch.eye(100)  # neither examples nor places follow each other
    assert between.abs().max() < 6 / 2000**0.5

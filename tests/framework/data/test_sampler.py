"""The order of training does not depend on the cluster and continues from any point."""

from collections import Counter
from functools import partial
from itertools import islice
from typing import NamedTuple

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor

from poise.data.blocks import check_sizes
from poise.data.order import StreamOrder, epoch_order, epoch_size
from poise.data.sampler import EpochSampler, Rows
from poise.errors import UserError

LAYOUTS = st.tuples(st.integers(1, 4), st.integers(1, 3))
SEEDS = st.integers(0, 2**40)


def _listed(rows: Rows) -> tuple[list[int], dict[str, list[int]]]:
    return rows.train.tolist(), {name: stream.tolist() for name, stream in rows.streams.items()}


def _epochs(count: int, **arguments: object) -> list[tuple[list[int], dict[str, list[int]]]]:
    sampler = EpochSampler(**arguments)
    return [_listed(rows) for _ in range(count) for rows in sampler]


@given(LAYOUTS, st.integers(1, 3), st.integers(0, 40), SEEDS, st.integers(0, 30))
def test_the_union_over_ranks_and_micro_batches_is_one_order(
    layout: tuple[int, int], rows: int, extra: int, seed: int, stream: int
) -> None:
    ranks, micro = layout
    batch_size = 72 * rows
    size = batch_size + extra
    streams = {"unlabelled": stream} if stream else {}
    whole = _epochs(2, size=size, batch_size=batch_size, seed=seed, streams=streams)
    shares = [
        _epochs(
            2,
            size=size,
            batch_size=batch_size,
            seed=seed,
            streams=streams,
            ranks=ranks,
            rank=rank,
            micro_batches=micro,
        )
        for rank in range(ranks)
    ]
    for step, (train, of_streams) in enumerate(whole):
        parts = [shares[rank][step * micro + m] for m in range(micro) for rank in range(ranks)]
        assert [row for part in parts for row in part[0]] == train
        for name, expected in of_streams.items():
            assert [row for part in parts for row in part[1][name]] == expected


@given(LAYOUTS, st.integers(1, 3), st.integers(0, 3), SEEDS, st.data())
def test_a_sampler_continues_where_another_was(
    layout: tuple[int, int], replays: int, epoch: int, seed: int, data: st.DataObject
) -> None:
    ranks, micro = layout
    fixed = {
        "size": 220,
        "batch_size": 72,
        "ranks": ranks,
        "rank": data.draw(st.integers(0, ranks - 1)),
        "micro_batches": micro,
        "seed": seed,
        "replays": replays,
        "streams": {"a": 7, "b": 90},
    }
    length = len(EpochSampler(**fixed))
    first = data.draw(st.integers(0, length))
    undisturbed = _epochs(5, **fixed)
    positions = iter([(epoch, first), (epoch, first), *((e, 0) for e in range(epoch + 1, 5))])
    resumed = EpochSampler(**fixed, position=lambda: next(positions))
    given = [_listed(rows) for _ in range(epoch, 5) for rows in resumed]
    assert given == undisturbed[epoch * length + first :]


class Cluster(NamedTuple):
    """Ranks of a cluster, and how they share out a batch."""

    ranks: int
    micro_batches: int
    blocks: int
    block: int
    replays: int


CLUSTERS = st.builds(
    Cluster,
    st.sampled_from([1024, 1000, 96]),
    st.integers(1, 2),
    st.integers(1, 2),
    st.sampled_from([1, 4]),
    st.integers(1, 2),
)


@settings(max_examples=6, deadline=None)
@given(CLUSTERS, st.integers(1, 2), st.integers(0, 50), st.integers(0, 3), SEEDS, st.data())
def test_a_thousand_ranks_share_out_each_batch_in_blocks_without_a_gap_or_overlap(
    cluster: Cluster, steps: int, extra: int, epoch: int, seed: int, data: st.DataObject
) -> None:
    ranks, micro, blocks, block, replays = cluster
    batch_size = ranks * micro * blocks * block
    assert check_sizes(batch_size, ranks, micro, block) == blocks * block
    fixed = {"size": steps * batch_size + extra, "batch_size": batch_size, "seed": seed, "streams": {"a": 700}}
    done = data.draw(st.integers(0, steps * micro * replays - 1))
    of_ranks = []
    for rank in range(ranks):
        position = partial(next, iter([(epoch, done), (epoch, done), (epoch + 1, 0)]))
        of_ranks.append(
            EpochSampler(**fixed, micro_batches=micro, ranks=ranks, rank=rank, replays=replays, position=position)
        )
    used = steps * batch_size
    for number, first in ((epoch, done), (epoch + 1, 0)):
        order = EpochSampler(**fixed).order(number)
        assert torch.equal(order.sort().values, torch.arange(len(order)))
        stream = StreamOrder(700, seed, "a").rows(number * used, used)
        parts = [list(sampler) for sampler in of_ranks]
        for whole, seen in (
            (order[:used], [[rows.train for rows in part] for part in parts]),
            (stream, [[rows.streams["a"] for rows in part] for part in parts]),
        ):
            expected = whole.view(-1, ranks * blocks, block).repeat_interleave(replays, 0)[first:]
            given = torch.stack([torch.stack(part) for part in seen], 1)  # [micro-batches, ranks, rows]
            assert torch.equal(given.view(-1, ranks * blocks, block), expected)


@given(st.integers(1, 4), SEEDS)
def test_replays_come_in_a_row(replays: int, seed: int) -> None:
    once = _epochs(2, size=30, batch_size=8, seed=seed, streams={"a": 5})
    often = _epochs(2, size=30, batch_size=8, seed=seed, streams={"a": 5}, replays=replays)
    assert often == [rows for rows in once for _ in range(replays)]


def test_rows_lie_where_the_formula_says() -> None:
    sampler = EpochSampler(size=100, batch_size=24, micro_batches=3, ranks=2, rank=1, seed=3)
    order = sampler.order(0)
    assert len(sampler) == 12
    for number, rows in enumerate(sampler):
        step, m = divmod(number, 3)
        start = step * 24 + (m * 2 + 1) * 4
        assert torch.equal(rows.train, order[start : start + 4])


def test_every_epoch_is_another_permutation_and_the_short_batch_is_dropped() -> None:
    sampler = EpochSampler(size=20, batch_size=8, seed=1)
    epochs = [[row for rows in sampler for row in rows.train.tolist()] for _ in range(3)]
    assert all(len(set(epoch)) == 16 for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2]
    other = EpochSampler(size=20, batch_size=8, seed=2)
    assert [row for rows in other for row in rows.train.tolist()] != epochs[0]


def test_the_order_is_this_one_for_good() -> None:
    assert epoch_order(8, seed=0, epoch=0).tolist() == [1, 0, 4, 3, 6, 7, 5, 2]
    assert epoch_order(8, seed=0, epoch=1).tolist() == [2, 6, 3, 5, 7, 1, 4, 0]


def test_the_global_generator_is_left_alone() -> None:
    state = torch.get_rng_state()
    list(EpochSampler(size=20, batch_size=4, streams={"a": 3}, weights=lambda epoch: torch.rand(20).fill_(1.0)))
    torch.set_rng_state(state)
    list(EpochSampler(size=20, batch_size=4))
    assert torch.equal(torch.get_rng_state(), state)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), SEEDS)
def test_integer_weights_are_exact_copies(copies: list[int], seed: int) -> None:
    assume(sum(copies) > 0)
    weights = torch.tensor(copies)
    order = epoch_order(len(copies), seed, 0, weights)
    assert Counter(order.tolist()) == Counter({i: n for i, n in enumerate(copies) if n})
    assert epoch_size(len(copies), weights) == len(order) == sum(copies)


def test_float_weights_are_odds() -> None:
    weights = torch.tensor([0.0, 1.0, 3.0, 0.0]).repeat(5000)
    order = epoch_order(20000, 0, 0, weights)
    assert len(order) == epoch_size(20000, weights) == 20000
    share = Counter((order % 4).tolist())
    assert set(share) == {1, 2}
    # five standard deviations of a binomial of 20000 draws at 3/4
    assert abs(share[2] / 20000 - 0.75) < 5 * (0.75 * 0.25 / 20000) ** 0.5
    assert not torch.equal(order, epoch_order(20000, 0, 1, weights))


@given(st.lists(st.floats(0, 1e30), min_size=1, max_size=20), SEEDS)
def test_a_weight_of_zero_is_never_drawn(odds: list[float], seed: int) -> None:
    weights = torch.tensor(odds)
    assume(bool((weights > 0).any()) and bool(torch.isfinite(weights).all()))
    assert bool((weights[epoch_order(len(odds), seed, 0, weights)] > 0).all())


def test_weights_may_change_by_epoch_while_the_steps_stay() -> None:
    def weights(epoch: int) -> Tensor:
        return torch.tensor([2, 0, 1, 1] if epoch == 0 else [0, 2, 1, 1])

    sampler = EpochSampler(size=4, batch_size=2, weights=weights)
    first, second = ([row for rows in sampler for row in rows.train.tolist()] for _ in range(2))
    assert sorted(first) == [0, 0, 2, 3]
    assert sorted(second) == [1, 1, 2, 3]

    growing = EpochSampler(size=4, batch_size=2, weights=lambda epoch: torch.full((4,), epoch + 1))
    assert len(list(growing)) == 2
    with pytest.raises(UserError, match="leave 8 examples in epoch 1, not 2 steps of 2 as before"):
        list(growing)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (torch.tensor([1.0, -1.0, 1.0]), "sample weight of example 1 is -1.0"),
        (torch.tensor([1.0, 1.0, float("nan")]), "sample weight of example 2 is nan"),
        (torch.zeros(3), "sample weights are all 0"),
        (torch.zeros(3, dtype=torch.int64), "sample weights are all 0"),
        (torch.ones(4), r"shape \(4,\): give one for each of 3 examples"),
    ],
)
def test_weights_that_cannot_be_used(weights: Tensor, message: str) -> None:
    with pytest.raises(UserError, match=message):
        EpochSampler(size=3, batch_size=1, weights=lambda epoch: weights)


def test_a_split_smaller_than_the_batch_is_refused() -> None:
    with pytest.raises(UserError, match="the training split has 7 examples, fewer than batch_size=8"):
        EpochSampler(size=7, batch_size=8)
    with pytest.raises(UserError, match="with its sample weights has 3 examples"):
        EpochSampler(size=7, batch_size=4, weights=lambda epoch: torch.tensor([1, 1, 1, 0, 0, 0, 0]))
    with pytest.raises(UserError, match=r"batch_size=8 over 3 ranks is about 2\.7 a rank"):
        EpochSampler(size=70, batch_size=8, ranks=3)


@given(st.integers(1, 9), st.integers(0, 40), st.integers(1, 25), SEEDS)
def test_a_stream_shows_every_example_once_a_pass(size: int, start: int, count: int, seed: int) -> None:
    endless = StreamOrder(size, seed, "unlabelled").rows(0, start + count).tolist()
    for number in range(len(endless) // size):
        assert sorted(endless[number * size : (number + 1) * size]) == list(range(size))
    assert StreamOrder(size, seed, "unlabelled").rows(start, count).tolist() == endless[start:]


def test_streams_differ_by_name_and_an_empty_one_is_refused() -> None:
    one, other = (StreamOrder(50, 0, name).rows(0, 50).tolist() for name in ("a", "b"))
    assert one != other
    with pytest.raises(UserError, match="the stream 'a' is empty"):
        StreamOrder(0, 0, "a")


def test_an_abandoned_epoch_does_not_come_back() -> None:
    sampler = EpochSampler(size=20, batch_size=4)
    list(islice(sampler, 2))
    assert torch.equal(next(iter(sampler)).train, sampler.order(1)[:4])

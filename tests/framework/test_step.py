import zlib
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from poise.batch import Batch
from poise.models.classifier import Classifier
from poise.recipe import Recipe
from poise.stack import RecipeStack
from poise.step import Step, key

BLOCK, BLOCKS = 4, 6
MODEL = Classifier(nn.Flatten(), nn.Linear(5, 3), layer_names=())


def batch(rows: int = BLOCK * BLOCKS, copies: int = 1) -> Batch:
    x = torch.linspace(0, 1, rows * copies * 5).view(rows * copies, 5)
    return Batch.of(x, torch.arange(rows * copies) % 3, num_classes=3, copies=copies)


def step(**named: object) -> Step:
    return Step(MODEL, block=BLOCK, **named)  # type: ignore[arg-type]


def draws(of: Step, rows: Batch, name: str = "noise") -> Tensor:
    return of.normal(rows, rows.x, name)


def test_keys_are_the_same_everywhere() -> None:
    assert key(1, 20, "trades/start", 3) == zlib.crc32(b"1,20,trades/start,3")


def test_the_same_name_in_one_step_is_the_same_draw() -> None:
    rows, one = batch(), step(member="one", global_step=5, seed=2)
    assert torch.equal(draws(one, rows), draws(one, rows))
    assert torch.equal(one.uniform(rows, rows.x, "u"), one.uniform(rows, rows.x, "u"))
    assert one.generator("g").initial_seed() == one.generator("g").initial_seed()
    first, again = one.blocks(rows, "b"), one.blocks(rows, "b")
    assert [torch.rand(2, generator=g).tolist() for _, g in first] == [
        torch.rand(2, generator=g).tolist() for _, g in again
    ]


@pytest.mark.parametrize("other", [{"member": "two"}, {"global_step": 6}, {"seed": 3}, {"first_block": 1}])
def test_members_steps_seeds_and_blocks_never_share_a_draw(other: dict[str, object]) -> None:
    rows, one = batch(), step(member="one", global_step=5, seed=2)
    another = one.replace(**other)
    assert not torch.equal(draws(one, rows), draws(another, rows))
    assert not torch.equal(draws(one, rows, "noise"), draws(one, rows, "other"))
    assert not torch.equal(draws(one, rows)[:BLOCK], draws(one, rows)[BLOCK : 2 * BLOCK])


def test_a_step_is_bound_to_the_member_it_is_handed_to() -> None:
    rows, one = batch(), step()
    assert not torch.equal(draws(one.bound("one"), rows), draws(one.bound("two"), rows))
    assert one.bound("one").bound("one").member == "one"


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, BLOCKS - 1), max_size=4, unique=True), st.sampled_from([1, 2]))
def test_block_draws_do_not_depend_on_how_the_global_batch_is_split(cuts: list[int], copies: int) -> None:
    """Ranks and micro-batches hold whole blocks: whatever they hold, a block's draws are its own."""
    whole = batch(copies=copies)
    rows_of_a_block = BLOCK * copies
    expected = draws(step(), whole), step().uniform(whole, whole.x, "u")
    edges = [0, *sorted(cuts), BLOCKS]
    for begin, end in pairwise(edges):
        part = batch((end - begin) * BLOCK, copies)
        own = step(first_block=begin)
        rows = slice(begin * rows_of_a_block, end * rows_of_a_block)
        assert torch.equal(draws(own, part), expected[0][rows])
        assert torch.equal(own.uniform(part, part.x, "u"), expected[1][rows])
        for (_, mine), (_, theirs) in zip(own.blocks(part, "b"), step().blocks(whole, "b")[begin:end], strict=True):
            assert mine.initial_seed() == theirs.initial_seed()


def test_batch_wide_draws_do_not_depend_on_the_block() -> None:
    assert step(first_block=3).generator("g").initial_seed() == step().generator("g").initial_seed()


def test_what_the_host_decides_is_drawn_there() -> None:
    there = Step(Classifier(nn.Flatten(), nn.Linear(5, 3, device="meta"), layer_names=()))
    assert there.host_generator("g").device.type == "cpu"
    assert there.host_generator("g").initial_seed() == Step(MODEL).generator("g").initial_seed()


@pytest.mark.parametrize(
    ("block", "copies", "sizes"), [(4, 1, [4, 4, 2]), (4, 2, [8, 8, 4]), (0, 1, [10]), (0, 2, [20])]
)
def test_blocks_cover_every_row_once(block: int, copies: int, sizes: list[int]) -> None:
    rows = batch(10, copies)
    blocks = Step(MODEL, block=block).blocks(rows, "b")
    assert [len(part) for part, _ in blocks] == sizes
    assert torch.equal(torch.cat([part for part, _ in blocks]), torch.arange(len(rows)))


def test_noise_has_the_shape_of_what_it_is_like_and_its_own_law() -> None:
    rows = batch(400)
    like = torch.zeros(400, 7, 3, dtype=torch.float64)
    normal, uniform = step().normal(rows, like, "n"), step().uniform(rows, like, "u")
    assert normal.shape == uniform.shape == like.shape
    assert normal.dtype == torch.float64
    assert abs(float(normal.mean())) < 0.05
    assert abs(float(normal.std()) - 1) < 0.05
    assert 0 <= float(uniform.min()) < 0.05
    assert 0.95 < float(uniform.max()) < 1


def test_draws_leave_the_global_generator_alone() -> None:
    rows = batch()
    before = torch.random.get_rng_state()
    draws(step(), rows)
    step().generator("g")
    assert torch.equal(before, torch.random.get_rng_state())


class Smoothed(Recipe):
    def adjust(self, logits, target, batch, step):  # type: ignore[no-untyped-def]
        return 2 * logits, (target + 1 / 3) / 2


class Squared(Recipe):
    def criterion(self, logits, target, batch, step):  # type: ignore[no-untyped-def]
        return (logits - target).square().sum(1)


def test_the_label_loss_is_the_criterion_of_what_was_adjusted() -> None:
    rows = batch(6)
    logits = MODEL(rows.x)
    with_stack = Step(MODEL, RecipeStack([Smoothed(), Squared()]))
    expected = (2 * logits - (rows.target + 1 / 3) / 2).square().sum(1)
    torch.testing.assert_close(with_stack.loss(logits, rows), expected)
    torch.testing.assert_close(Step(MODEL).loss(logits, rows), -logits.log_softmax(1)[range(6), rows.label])
    torch.testing.assert_close(with_stack.inner(rows)(rows.x), -logits.log_softmax(1)[range(6), rows.label])


class Shifted(Recipe):
    def transform(self, layer, h, batch, step):  # type: ignore[no-untyped-def]
        return h + 1 if layer == "input" else h


def test_transforms_apply_where_a_batch_is_given_and_attacks_do_not_see_them() -> None:
    rows = batch(3)
    of = Step(MODEL, RecipeStack([Shifted()]))
    torch.testing.assert_close(of.forward(rows.x, rows).logits, MODEL(rows.x + 1))
    torch.testing.assert_close(of.forward(rows.x).logits, MODEL(rows.x))
    torch.testing.assert_close(of.model(rows.x), MODEL(rows.x))


def test_any_module_from_inputs_to_logits_makes_a_step() -> None:
    network, rows = nn.Linear(5, 3), batch(2)
    assert torch.equal(Step(network).forward(rows.x, rows).logits, network(rows.x))


def test_what_only_a_run_has_says_so() -> None:
    with pytest.raises(NotImplementedError, match="step.predict needs a run with splits"):
        step().predict("train")
    step().log("anything", 1.0)
    step().stop("no reason")

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poise.batch import Batch, Outcome, as_input
from poise.errors import UserError
from poise.models.classifier import Output
from poise.recipe import Recipe

SIZE, CLASSES, ROWS = 20, 4, 6
LABELS = torch.arange(SIZE) % CLASSES


def batch(seed: int = 0, rows: int = ROWS) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    index = torch.randperm(SIZE, generator=generator)[:rows]
    x = torch.rand(rows, 2, 3, dtype=torch.float64, generator=generator)
    return Batch.of(x, LABELS[index], CLASSES, index=index, group=index % 2, views=(1 - x,))


def blended(given_batch: Batch, seed: int) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    partner = torch.randperm(len(given_batch), generator=generator)
    share = torch.rand(len(given_batch), dtype=torch.float64, generator=generator)
    own = share.view(-1, 1, 1)
    return given_batch.blend(partner, share, lambda x: own * x + (1 - own) * x[partner])


def by_hand(table: Tensor, of: Batch) -> Tensor:
    assert of.parents is not None
    assert of.share is not None
    rows = [
        sum(float(s) * table[int(p)].double() for p, s in zip(parents, shares, strict=True))
        for parents, shares in zip(of.parents, of.share, strict=True)
    ]
    return torch.stack(rows)  # type: ignore[arg-type]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(0, 1000), max_size=3), st.booleans())
def test_any_chain_of_blends_keeps_targets_shares_and_lookups_consistent(seeds: list[int], doubled: bool) -> None:
    mixed = plain = batch()
    for seed in seeds:
        mixed = blended(mixed, seed)
    if doubled:
        mixed = plain.interleave(mixed)
    torch.testing.assert_close(mixed.target.sum(1), torch.ones(len(mixed), dtype=torch.float64))
    assert mixed.target.min() >= 0
    parents, share = mixed.lineage()
    assert parents.shape == share.shape
    torch.testing.assert_close(share.sum(1), torch.ones(len(mixed), dtype=torch.float64))
    # what a row's parents were, its target is
    one_hot = F.one_hot(LABELS, CLASSES).double()
    torch.testing.assert_close(mixed.lookup(one_hot), mixed.target)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 1000), st.sampled_from([torch.float64, torch.int64, torch.bool]))
def test_a_mixed_row_gets_its_parents_mean_of_any_table(seed: int, dtype: torch.dtype) -> None:
    mixed = blended(batch(), seed)
    table = (torch.arange(SIZE * 2).view(SIZE, 2) * 7 % 5).to(dtype)
    torch.testing.assert_close(mixed.lookup(table).double(), by_hand(table, mixed))


def test_an_unmixed_row_gets_its_own_entry() -> None:
    plain, table = batch(), torch.rand(SIZE, 3, 2)
    assert torch.equal(plain.lookup(table), table[plain.index])


def test_a_blend_mixes_inputs_views_and_targets_and_keeps_who_a_row_was() -> None:
    plain = batch()
    partner, share = torch.arange(ROWS).roll(1), torch.full((ROWS,), 0.25, dtype=torch.float64)
    mixed = plain.blend(partner, share, lambda x: 0.25 * x + 0.75 * x[partner])
    torch.testing.assert_close(mixed.x, 0.25 * plain.x + 0.75 * plain.x[partner])
    torch.testing.assert_close(mixed.views[0], 0.25 * plain.views[0] + 0.75 * plain.views[0][partner])
    torch.testing.assert_close(mixed.target, 0.25 * plain.target + 0.75 * plain.target[partner])
    for name in ("label", "index", "group"):
        assert torch.equal(getattr(mixed, name), getattr(plain, name))


def test_a_blend_without_an_index_has_no_parents() -> None:
    mixed = blended(batch().replace(index=None), 0)
    assert mixed.parents is None
    with pytest.raises(UserError, match="the loader gives no `index`"):
        mixed.lookup(torch.rand(SIZE))
    with pytest.raises(UserError, match="parents of mixed examples are not known"):
        mixed.lineage()


def test_interleaved_rows_are_adjacent_and_counted() -> None:
    plain = batch()
    other = plain.replace(x=plain.x + 1)
    both = plain.interleave(other)
    assert len(both) == 2 * ROWS
    assert both.copies == 2
    assert torch.equal(both.x[0::2], plain.x)
    assert torch.equal(both.x[1::2], other.x)
    assert torch.equal(both.label, plain.label.repeat_interleave(2))
    assert torch.equal(both.views[0][0::2], plain.views[0])
    assert both.x_adv is None
    assert both.interleave(both).copies == 4


def test_fields_of_other_lengths_are_refused() -> None:
    plain = batch()
    broken = object.__new__(Batch)  # the shape checks that run in tests would say so first
    broken.__dict__.update(vars(plain) | {"group": plain.index[:5], "views": (plain.x[:4],)})  # type: ignore[index]
    with pytest.raises(ValueError, match=r"x has 6 rows, but \{'group': 5, 'views\[0\]': 4\}: change every field"):
        broken.__post_init__()


def test_inputs_and_targets_take_their_form() -> None:
    made = Batch.of(torch.tensor([[0], [255]], dtype=torch.uint8), torch.tensor([2, -1]), num_classes=4)
    assert made.x.tolist() == [[0.0], [1.0]]
    assert made.target.tolist() == [[0, 0, 1, 0], [0.25] * 4]
    assert as_input(torch.ones(1, 1, dtype=torch.bfloat16)).dtype == torch.float32
    assert as_input(torch.ones(1, 1, dtype=torch.float64)).dtype == torch.float64


def test_a_note_is_its_writers_alone() -> None:
    writer, other = Recipe(), Recipe()
    noted = batch().note(writer, "seen")
    assert noted.noted(writer) == "seen"
    assert noted.noted(other) is None
    assert noted.replace(x=noted.x).noted(writer) == "seen"


def test_an_outcome_is_on_the_adversarial_pass_where_there_is_one() -> None:
    clean, adv = Output(torch.rand(2, 3)), Output(torch.rand(2, 3))
    loss = torch.rand(2)
    assert Outcome(loss, clean=clean, adv=adv).on is adv
    assert Outcome(loss, clean=clean).on is clean
    with pytest.raises(ValueError, match="neither a clean nor an adversarial output"):
        _ = Outcome(loss).on

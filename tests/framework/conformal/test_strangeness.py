import inspect
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from poise.conformal.strangeness import aps, lac, places, raps
from poise.errors import UserError

PROBABILITIES = torch.tensor([[0.1, 0.6, 0.3], [0.25, 0.25, 0.5]], dtype=torch.float64)
LOGITS = PROBABILITIES.log() + torch.tensor([[3.0], [-2.0]])
ZERO = torch.zeros(2)


def test_by_hand() -> None:
    torch.testing.assert_close((-lac(LOGITS)).exp(), PROBABILITIES)
    down_to = torch.tensor([[1.0, 0.6, 0.9], [0.75, 1.0, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(aps(LOGITS, ZERO), down_to)
    torch.testing.assert_close(
        aps(LOGITS, torch.tensor([0.5, 0.25])), down_to - torch.tensor([[0.5], [0.25]]) * PROBABILITIES
    )
    assert places(LOGITS).tolist() == [[3, 1, 2], [2, 3, 1]]
    further = 0.2 * torch.tensor([[2, 0, 1], [1, 2, 0]], dtype=torch.float64)
    torch.testing.assert_close(raps(LOGITS, ZERO, 0.2, 1), down_to + further, rtol=0, atol=1e-14)
    assert torch.equal(raps(LOGITS, ZERO, 0.0, 0), aps(LOGITS, ZERO))


def test_labels_less_probable_than_a_last_bit_are_told_apart() -> None:
    logits = torch.tensor([[0.0, -100.0, -200.0]])
    assert lac(logits)[0].diff().tolist() == pytest.approx([100.0, 100.0])
    assert places(logits).tolist() == [[1, 2, 3]]


def test_a_class_that_is_masked_is_as_strange_as_scores_go() -> None:
    logits = torch.tensor([[0.0, -torch.inf, 1.0]])
    assert lac(logits)[0, 1] == torch.inf
    assert aps(logits, ZERO[:1])[0, 1] == 1


@given(st.integers(2, 12), st.integers(0, 1000), st.floats(0, 1))
def test_sets_grow_with_the_threshold_and_hold_the_more_probable_labels(classes: int, seed: int, u: float) -> None:
    logits = 3 * torch.randn(5, classes, generator=torch.Generator().manual_seed(seed))
    order = places(logits).argsort(1)

    def rising(scores: Tensor) -> bool:
        return bool((scores.gather(1, order).diff(dim=1) >= -1e-12).all())

    assert rising(lac(logits))
    assert rising(aps(logits, torch.full((5,), u)))
    assert rising(raps(logits, torch.full((5,), u), 0.1, 2))


def test_random_scores_of_true_labels_are_uniform_where_probabilities_are_right() -> None:
    keyed = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 6, generator=keyed)
    label = torch.multinomial(logits.softmax(1), 1, generator=keyed)
    scores = aps(logits, torch.rand(20_000, generator=keyed)).gather(1, label)[:, 0].sort().values
    gap = (scores - (torch.arange(20_000) + 0.5) / 20_000).abs().max()
    assert gap < 1.95 / 20_000**0.5  # Kolmogorov and Smirnov's, of one test in a thousand
    fixed = aps(logits, torch.zeros(20_000)).gather(1, label)[:, 0].sort().values
    assert (fixed - (torch.arange(20_000) + 0.5) / 20_000).abs().max() > 0.1


@pytest.mark.parametrize("name", ["aps", "raps"])
def test_random_numbers_are_one_for_each_example_from_0_to_1(name: str) -> None:
    look: Any = {"aps": inspect.unwrap(aps), "raps": partial(inspect.unwrap(raps), penalty=0.1, free=1)}[name]
    for u in (torch.tensor([0.5, 1.5]), torch.tensor([0.5, -0.1]), torch.tensor([0.5, torch.nan])):
        with pytest.raises(UserError, match=rf"^Example 1 of what {name} takes has u outside 0…1 \(1 of 2 do\)"):
            look(LOGITS, u)
    for u in (torch.zeros(1), torch.zeros(2, 1), torch.zeros(2).long()):
        with pytest.raises(UserError, match=rf"^{name} takes float u \[2\], not torch"):
            look(LOGITS, u)


@pytest.mark.parametrize("score", [lac, aps, raps, places])
def test_what_are_no_logits_is_refused(score: Any) -> None:
    further = {lac: (), aps: (ZERO,), raps: (ZERO, 0.1, 1), places: ()}[score]
    look = inspect.unwrap(score)  # without the checker of annotations, which would speak first
    with pytest.raises(UserError, match=r"^logits is of type ndarray: give a torch tensor"):
        look(LOGITS.numpy(), *further)
    with pytest.raises(UserError, match=rf"^{score.__name__} takes float logits \[N, C\], not torch.float64 of shape"):
        look(LOGITS[0], *further)

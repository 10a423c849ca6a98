from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from scipy import signal, stats
from torch import Tensor

from poise.errors import UserError
from poise.evaluation.certificates import (
    ABSTAINS,
    Certificates,
    certified,
    furthest,
    is_ahead,
    lower_bound,
    quantile,
    voted_accuracy,
)

ALPHA = 0.001
alphas = st.floats(1e-6, 0.5)


def all_hits(copies: int) -> Tensor:
    return torch.arange(copies + 1)


@pytest.mark.parametrize(("copies", "most"), [(100, 1.50), (1_000, 2.46), (10_000, 3.20), (100_000, 3.81)])
def test_where_all_copies_agree_the_radius_is_the_published_one(copies: int, most: float) -> None:
    assert furthest(copies, ALPHA) == pytest.approx(most, abs=0.005)
    assert furthest(copies, ALPHA) == pytest.approx(stats.norm.ppf(ALPHA ** (1 / copies)))


def test_of_100_000_copies_50_490_are_the_first_to_prove_something() -> None:
    below, above = lower_bound(torch.tensor([50_489, 50_490]), 100_000, ALPHA).tolist()
    assert below < 0.5 <= above


@settings(max_examples=30, deadline=None)
@given(copies=st.integers(1, 60), alpha=alphas)
@example(copies=1, alpha=0.5)
def test_at_the_bound_as_many_hits_have_a_probability_of_alpha(copies: int, alpha: float) -> None:
    hits = all_hits(copies)
    bound = lower_bound(hits, copies, alpha)
    assert bound[0] == 0
    assert stats.binom.sf(hits[1:] - 1, copies, bound[1:]) == pytest.approx(alpha, rel=1e-6)
    assert (bound.diff() > 0).all()
    assert (bound <= hits / copies).all()
    assert (lower_bound(hits, copies, alpha / 2) <= bound).all()


@settings(max_examples=30, deadline=None)
@given(copies=st.integers(1, 200), alpha=alphas, probability=st.floats(0, 1))
def test_whatever_the_probability_the_bound_is_wrong_in_a_share_of_alpha_at_most(
    copies: int, alpha: float, probability: float
) -> None:
    hits = all_hits(copies)
    wrong = lower_bound(hits, copies, alpha) > probability
    assert stats.binom.pmf(hits, copies, probability)[wrong].sum() <= alpha * (1 + 1e-9)


@settings(max_examples=50, deadline=None)
@given(first=st.integers(0, 300), second=st.integers(0, 300), alpha=alphas)
def test_the_first_of_two_is_ahead_by_the_two_sided_binomial_test(first: int, second: int, alpha: float) -> None:
    first, second = max(first, second), min(first, second)
    both = first + second
    expected = both > 0 and stats.binomtest(first, both, 0.5).pvalue <= alpha
    assert is_ahead(torch.tensor([first]), torch.tensor([second]), alpha).item() == expected


@cache
def of_kind(copies: int, one: float, other: float) -> Any:
    """The probabilities of so many votes for one class and so many for another."""
    votes = np.arange(copies + 1)
    left = 0.0 if one == 1 else other / (1 - one)
    return stats.binom.pmf(votes, copies, one)[:, None] * stats.binom.pmf(votes, copies - votes[:, None], left)


@pytest.mark.parametrize("copies", [5, 20])
@pytest.mark.parametrize("alpha", [0.2, 0.05, 0.001])
def test_of_two_kinds_of_votes_together_a_class_that_is_not_ahead_seems_so_as_seldom(copies: int, alpha: float) -> None:
    one, other = torch.meshgrid(*[torch.arange(2 * copies + 1)] * 2, indexing="ij")
    first, second = torch.maximum(one, other).flatten(), torch.minimum(one, other).flatten()
    wrong = (is_ahead(first, second, alpha) & (one > other).flatten()).numpy()
    grid = [place / 4 for place in range(5)]
    kinds = [(p, q) for p in grid for q in grid if p + q <= 1]
    level = [(a, b) for a in kinds for b in kinds if a[0] + b[0] == a[1] + b[1]]  # two classes get as much
    for kind, another in level:
        both = signal.convolve2d(of_kind(copies, *kind), of_kind(copies, *another))
        assert both.flatten()[wrong].sum() <= alpha / 2


def test_the_accuracy_of_votes_is_that_of_clear_ones() -> None:
    votes = torch.tensor([[90, 10, 0], [52, 48, 0], [10, 90, 0], [0, 0, 0]])
    assert voted_accuracy(votes, torch.tensor([0, 0, 0, 0]), ALPHA) == 0.25


@pytest.mark.parametrize(("copies", "alpha", "needed"), [(9, ALPHA, 10), (1, 0.5, 2), (16, 1e-5, 17)])
def test_too_few_copies_are_a_mistake_that_says_how_many_are_needed(copies: int, alpha: float, needed: int) -> None:
    with pytest.raises(UserError, match=f"n={copies} noisy copies prove nothing .* set n to {needed} or more"):
        furthest(copies, alpha)
    assert furthest(needed, alpha) > 0


def made() -> Certificates:
    label = torch.tensor([0, 1, 2, 0])
    certain = torch.tensor([True, True, False, True])
    return certified(
        torch.tensor([0, 1, 2, 1]), torch.tensor([0.5, 0.2, 0.9, 0.7], dtype=torch.float64), certain, label
    )


def test_what_is_not_certain_abstains_and_counts_as_an_error() -> None:
    assert made().predicted.tolist() == [0, 1, ABSTAINS, 1]
    assert made().radius.tolist() == [0.5, 0.2, 0.0, 0.7]
    assert made().metrics("test/", (0.0, 0.2, 0.25)) == {
        "test/certified_accuracy/0": 0.5,
        "test/certified_accuracy/0.2": 0.5,
        "test/certified_accuracy/0.25": 0.25,
        "test/average_certified_radius": pytest.approx(0.7 / 4),
        "test/abstention_rate": 0.25,
    }


@settings(max_examples=30, deadline=None)
@given(radii=st.lists(st.floats(0, 3), min_size=1, max_size=12), at=st.lists(st.floats(0, 4), min_size=2, max_size=6))
def test_accuracy_never_rises_with_the_radius_and_its_area_is_the_average_radius(
    radii: list[float], at: list[float]
) -> None:
    radius = torch.tensor(radii, dtype=torch.float64)
    label = torch.arange(len(radii)) % 2
    found = certified(torch.zeros_like(label), radius, radius >= 0, label)
    curve = [found.accuracy(place) for place in sorted(at)]
    assert curve == sorted(curve, reverse=True)
    edges = [0.0, *sorted(radii)]
    area = sum((b - a) * found.accuracy(b) for a, b in pairwise(edges))
    assert found.metrics("", ())["average_certified_radius"] == pytest.approx(area, abs=1e-9)


def test_the_drawing_holds_the_radii_of_those_certified_right() -> None:
    drawing = made().drawing("test", "a method", 0.25, 1000, ALPHA, 0.6)
    assert drawing.radii == (0.2, 0.5)
    assert (drawing.abstained, drawing.examples) == (1, 4)


def test_quantiles_are_those_of_the_normal_distribution() -> None:
    probability = torch.tensor([0.0, 0.001, 0.5, 0.99999], dtype=torch.float64)
    assert quantile(probability).numpy() == pytest.approx(stats.norm.ppf(probability))

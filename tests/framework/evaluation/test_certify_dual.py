from dataclasses import replace

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from poise.distributed import current_ranks
from poise.errors import UserError
from poise.evaluation.certificates import lower_bound, quantile
from poise.evaluation.certify_dual import CertifyDual, dual_certificates
from poise.evaluator import Subject
from poise.figures.certified import Certified
from ranks import Pair
from smoothed import Linear, subject, too_many

SIGMA, ALPHA = 0.05, 0.05
LIMIT = 0.85
LEFT, RIGHT = (0, 0), (2, 3)  # a pixel of each half
probabilities = st.floats(0.01, 0.999)


def two_pixels(values: Tensor) -> Subject:
    """Pictures of which a pixel in each half is above or below 0.85 and all others are dark.

    The bright pixel is the largest of its square, so what the network sees of it is twice its value; it compares that
    with 1.7, in either half. All are of class 1.
    """
    x = torch.full((len(values), 1, 4, 4), 0.1)
    weight = torch.zeros(2, 4, 4)
    for column, (row, place) in enumerate((LEFT, RIGHT)):
        x[:, 0, row, place] = values[:, column]
        weight[1, row, place] = 1
    label = torch.ones(len(values)).long()
    label[-1] = 0  # a split has two classes
    return subject(Linear(weight.flatten(1), torch.tensor([0.0, -2 * LIMIT])), x, label, 2)


def test_on_two_pixels_the_radius_is_the_distance_to_where_their_sum_falls_below_the_limit() -> None:
    values = torch.tensor([[0.95, 0.95], [0.97, 0.86], [0.95, 0.83], [0.87, 0.81], [0.8, 0.8]])
    found = CertifyDual(SIGMA, n=20_000, examples=5, radii=(0.0,)).evaluate(two_pixels(values))
    distances = (values - LIMIT).sum(1) / 2**0.5  # of which one half may be below 0
    right = [0, 1, 2, 4]  # the fourth is of class 0 and labelled as of class 1
    expected = distances[right].abs().sort().values
    drawing = found.figures["test-dual-certified-accuracy"]
    assert isinstance(drawing, Certified)
    radii = torch.tensor(drawing.radii)
    assert len(radii) == 4
    assert (radii <= expected).all()
    assert (radii > expected - 0.2 * SIGMA).all()
    assert found.metrics["test/dual_certified_accuracy/0"] == pytest.approx(4 / 5)


@settings(max_examples=50, deadline=None)
@given(p=probabilities, q=probabilities)
def test_no_change_below_the_radius_turns_the_sum_and_one_just_above_does(p: float, q: float) -> None:
    a, b = stats.norm.ppf([p, q])
    assume(a + b > 0.01)
    radius = (a + b) / 2**0.5
    angle = torch.linspace(0, torch.pi / 2, 2001, dtype=torch.float64)  # how a change is shared between the halves

    def least(length: float) -> float:
        return float((stats.norm.cdf(a - length * angle.cos()) + stats.norm.cdf(b - length * angle.sin())).min())

    assert least(0.999 * radius) > 1
    assert least(1.001 * radius) < 1


@pytest.mark.parametrize(("p", "q"), [(0.99, 0.7), (0.9, 0.4), (0.5, 0.5), (0.8, 0.8)])
def test_radii_are_too_large_in_a_share_of_alpha_at_most_and_those_of_the_unsound_rules_in_more(
    p: float, q: float
) -> None:
    trials, copies = 5000, 20_000
    halves = [
        torch.from_numpy(stats.binom.rvs(copies, probability, size=trials, random_state=seed))
        for seed, probability in enumerate((p, q))
    ]
    left, right = (torch.stack([hits, copies - hits], 1) for hits in halves)
    chosen, label = torch.tensor([[1, 0]]).expand(trials, 2), torch.zeros(trials).long()
    true = (stats.norm.ppf(p) + stats.norm.ppf(q)) / 2**0.5
    found = dual_certificates(chosen, (left, right), copies, label, 1.0, ALPHA)
    assert not too_many(int((found.right & (found.radius > max(true, 0.0))).sum()), trials, ALPHA)
    a, b = (quantile(lower_bound(hits, copies, ALPHA)).clamp(min=0) for hits in halves)
    unsound = {"root of squares": (a.square() + b.square()).sqrt(), "halves below zero as zero": (a + b) / 2**0.5}
    wrong = {name for name, radius in unsound.items() if too_many(int((radius > true + 1e-9).sum()), trials, ALPHA)}
    expected = {(0.99, 0.7): {"root of squares"}, (0.8, 0.8): set()}
    assert wrong == expected.get((p, q), set(unsound))


def found_here(batch_size: int = 100) -> dict[str, float]:
    """On the ranks that there are."""
    values = torch.linspace(0.8, 0.95, 10)[:, None].expand(10, 2)
    here = replace(two_pixels(values), ranks=current_ranks(), batch_size=batch_size)
    return CertifyDual(SIGMA, n0=20, n=100, examples=7, radii=(0.0, 0.02, 9.0)).evaluate(here).metrics


def test_neither_batch_size_nor_ranks_change_anything(pair: Pair) -> None:
    expected = found_here()
    assert set(expected) == {
        "test/dual_certified_accuracy/0",
        "test/dual_certified_accuracy/0.02",
        "test/dual_average_certified_radius",
        "test/dual_abstention_rate",
        "test/dual_smoothed_accuracy",
    }
    assert expected["test/dual_smoothed_accuracy"] >= expected["test/dual_certified_accuracy/0"]
    assert 0 < expected["test/dual_certified_accuracy/0.02"] < 1
    assert found_here(batch_size=7) == expected
    assert pair.run(found_here) == [expected, expected]


def test_a_network_that_knows_whole_pictures_alone_is_told_of() -> None:
    here = two_pixels(torch.tensor([[0.95, 0.95]] * 6))
    model = Linear(torch.tensor([[0.0] * 16, [-1.0] * 16]), torch.tensor([0.0, 3.6]))  # a whole picture is below 3.6
    (doubt,) = (
        CertifyDual(SIGMA, examples=6).evaluate(subject(model, here.splits.test.x, here.splits.test.label, 2)).doubts
    )
    assert doubt.startswith("16.7 % of the examples are certified right at all, and 83.3 % are got right as they are")
    assert "hardly trained on halves in noise of sigma=0.05." in doubt
    assert doubt.endswith("or set evaluation.certify_dual.sigma to the noise that it was trained with")


def test_what_has_no_halves_and_copies_that_prove_nothing_are_refused() -> None:
    table = subject(Linear(torch.zeros(2, 5), torch.zeros(2)), torch.zeros(4, 5), torch.tensor([0, 1, 0, 1]), 2)
    with pytest.raises(UserError, match="have no halves"):
        CertifyDual().check(table.splits)
    with pytest.raises(UserError, match="set n to 11 or more"):  # alpha is shared between the halves
        CertifyDual(n=10)

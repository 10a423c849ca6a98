"""What holds of calibration errors: laws, an example by hand, and somebody else's numbers."""

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.functional.classification import multiclass_calibration_error

from poise.metrics import (
    AverageCalibrationError,
    CalibrationError,
    ClasswiseCalibrationError,
    EqualMassCalibrationError,
    KDECalibrationError,
    KolmogorovSmirnovError,
    MaximumCalibrationError,
    MaximumMeanCalibrationError,
    RootMeanSquareCalibrationError,
    SmoothCalibrationError,
    ThresholdedClasswiseCalibrationError,
)

CLASSES = 3
ERRORS: dict[str, Callable[[int], Metric]] = {
    "equal_width": lambda bins: CalibrationError(bins),
    "equal_mass": lambda bins: EqualMassCalibrationError(bins),
    "maximum": lambda bins: MaximumCalibrationError(bins, min_count=1),
    "classwise": lambda bins: ClasswiseCalibrationError(CLASSES, bins),
    "thresholded": lambda bins: ThresholdedClasswiseCalibrationError(CLASSES, bins),
    "average": lambda bins: AverageCalibrationError(bins),
    "root_mean_square": lambda bins: RootMeanSquareCalibrationError(bins),
    "kolmogorov_smirnov": lambda bins: KolmogorovSmirnovError(),
    "kernel": lambda bins: MaximumMeanCalibrationError(1 / bins),
}
errors = pytest.mark.parametrize("make", list(ERRORS.values()), ids=list(ERRORS))
level = st.sampled_from([-40.0, -1.0, -0.25, 0.0, 0.5, 2.0, 30.0])  # few, so that confidences tie
example = st.tuples(level, level, level, st.integers(0, CLASSES - 1))
examples = st.lists(example, min_size=1, max_size=30)
bins = st.integers(1, 20)


def tensors(rows: list[tuple[float, float, float, int]]) -> tuple[Tensor, Tensor]:
    return torch.tensor([row[:3] for row in rows], dtype=torch.float64), torch.tensor([row[3] for row in rows])


def value_of(metric: Metric, logits: Tensor, labels: Tensor, *cuts: int) -> float:
    """The metric after one update for each part between cuts."""
    for rows in torch.arange(len(labels)).tensor_split(sorted(cuts)):
        metric.update(logits[rows], labels[rows])
    return float(metric.compute())


@errors
@given(rows=examples, num_bins=bins, cut=st.integers(0, 30), data=st.data())
def test_order_and_batches_do_not_matter(
    make: Callable[[int], Metric],
    rows: list[tuple[float, float, float, int]],
    num_bins: int,
    cut: int,
    data: st.DataObject,
) -> None:
    shuffled = data.draw(st.permutations(rows))
    assert value_of(make(num_bins), *tensors(shuffled), cut) == pytest.approx(
        value_of(make(num_bins), *tensors(rows)), abs=1e-14
    )


@errors
@given(first=examples, second=examples, num_bins=bins)
def test_a_merge_is_the_whole(
    make: Callable[[int], Metric],
    first: list[tuple[float, float, float, int]],
    second: list[tuple[float, float, float, int]],
    num_bins: int,
) -> None:
    left, right = make(num_bins), make(num_bins)
    left.update(*tensors(first))
    right.update(*tensors(second))
    left.merge_state(right)
    assert float(left.compute()) == pytest.approx(value_of(make(num_bins), *tensors(first + second)), abs=1e-14)


@errors
@given(rows=examples, num_bins=bins)
def test_an_error_is_between_none_and_all(
    make: Callable[[int], Metric], rows: list[tuple[float, float, float, int]], num_bins: int
) -> None:
    assert 0 <= value_of(make(num_bins), *tensors(rows)) <= 1


@pytest.mark.parametrize("name", ["equal_width", "equal_mass", "maximum"])
@given(rows=examples)
def test_one_bin_gives_confidence_minus_accuracy(name: str, rows: list[tuple[float, float, float, int]]) -> None:
    logits, labels = tensors(rows)
    confidence = logits.softmax(-1).amax(-1).mean()
    accuracy = (logits.argmax(-1) == labels).double().mean()
    found = value_of(ERRORS[name](1), logits, labels)
    assert found == pytest.approx(abs(float(confidence - accuracy)), abs=1e-14)


@given(rows=examples, num_bins=bins)
def test_the_mean_gap_is_at_most_the_largest(rows: list[tuple[float, float, float, int]], num_bins: int) -> None:
    mean, largest = (value_of(ERRORS[name](num_bins), *tensors(rows)) for name in ("equal_width", "maximum"))
    assert mean <= largest + 1e-14


@given(rows=st.lists(example, min_size=1, max_size=6), num_bins=st.integers(1, 4))
def test_ties_count_for_at_most_the_mean_over_their_orders(
    rows: list[tuple[float, float, float, int]], num_bins: int
) -> None:
    logits, labels = tensors(rows)
    confidence, right = logits.softmax(-1).amax(-1).tolist(), (logits.argmax(-1) == labels).tolist()
    size = len(rows)
    found = []
    for order in itertools.permutations(range(size)):
        placed = sorted(order, key=lambda i: confidence[i])  # stable: what ties stays in this order
        gaps = [0.0] * num_bins
        for position, i in enumerate(placed):
            gaps[position * num_bins // size] += confidence[i] - right[i]
        found.append(sum(map(abs, gaps)) / size)
    assert value_of(EqualMassCalibrationError(num_bins), logits, labels) <= sum(found) / len(found) + 1e-12


@pytest.mark.parametrize(("norm", "make"), [("l1", ERRORS["equal_width"]), ("max", ERRORS["maximum"])])
@pytest.mark.parametrize("num_bins", [1, 10, 15])
def test_equals_torchmetrics_where_no_confidence_is_on_an_edge(
    norm: str, make: Callable[[int], Metric], num_bins: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2000, 5, generator=generator, dtype=torch.float64)
    labels = torch.randint(5, (2000,), generator=generator)
    theirs = multiclass_calibration_error(logits.softmax(-1), labels, 5, num_bins, norm)  # type: ignore[arg-type]
    assert value_of(make(num_bins), logits, labels) == pytest.approx(float(theirs), abs=1e-6)


@pytest.mark.parametrize(("size", "expected"), [(1000, 0.032), (5000, 0.014)])
def test_calibrated_probabilities_have_the_error_of_chance(size: int, expected: float) -> None:
    """Examples right as often as they say, their confidence uniform on 0.4…1."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(40):
        confidence = 0.4 + 0.6 * torch.rand(size, generator=generator, dtype=torch.float64)
        rest = (1 - confidence) / 2
        wrong = (torch.rand(size, generator=generator) >= confidence).long()
        found.append(value_of(CalibrationError(), torch.stack([confidence, rest, rest], 1).log(), wrong))
    assert sum(found) / len(found) == pytest.approx(expected, abs=0.1 * expected)


@pytest.mark.parametrize(
    "make", [*ERRORS.values(), lambda bins: SmoothCalibrationError(), lambda bins: KDECalibrationError()]
)
def test_what_is_no_number_gives_none(make: Callable[[int], Metric]) -> None:
    metric = make(5)
    metric.add(torch.tensor([[0.0, 1.0, 2.0], [math.nan, 0.0, 0.0]]), torch.tensor([2, 0]))
    assert math.isnan(metric.compute())


def test_bins_of_few_examples_are_left_out_of_the_maximum() -> None:
    logits = torch.tensor([[3.0, 0.0]] * 10 + [[0.4, 0.0]])
    labels = torch.tensor([0] * 9 + [1, 1])
    found = value_of(MaximumCalibrationError(), logits, labels)
    assert found == pytest.approx(abs(0.9 - 1 / (1 + math.exp(-3))), abs=1e-7)
    assert math.isnan(value_of(MaximumCalibrationError(), logits[:9], labels[:9]))

"""Each metric against loops over plain numbers."""

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from gpus import needs_gpus
from metric_loops import CASES, MAKERS
from poise.errors import UserError
from poise.metrics import (
    Accuracy,
    BiasedSquaredKernelCalibrationError,
    Brier,
    BrierTerms,
    CalibrationError,
    ClassAccuracy,
    ClasswiseCalibrationError,
    CoverageAtRisk,
    EqualMassCalibrationError,
    MaximumCalibrationError,
    MaximumMeanCalibrationError,
    NegativeLogLikelihood,
    RiskAtCoverage,
)
from poise.metrics.bins import BinnedMetric
from poise.metrics.classwise import ClasswiseMetric
from ranks import Pair

cases = pytest.mark.parametrize(("make", "naive"), CASES)
makers = pytest.mark.parametrize("make", MAKERS)


def draw(seed: int, size: int, dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, 4, generator=generator, dtype=torch.float64) * 3
    logits[::5] = logits[::5].round()  # with ties
    return logits.to(dtype), torch.randint(4, (size,), generator=generator)


@cases
@given(seed=st.integers(0, 2**31 - 1), size=st.integers(1, 40))
def test_equals_the_loops(make: Callable[[], Metric], naive: Any, seed: int, size: int) -> None:
    logits, labels = draw(seed, size)
    metric = make()
    metric.update(logits, labels)
    np.testing.assert_allclose(metric.compute(), naive(logits.tolist(), labels.tolist()), rtol=0, atol=1e-12)


@cases
def test_float32_logits_are_summed_in_float64(make: Callable[[], Metric], naive: Any) -> None:
    logits, labels = draw(0, 500, torch.float32)
    metric = make()
    metric.update(logits, labels)
    value = metric.compute()
    assert value.dtype == torch.float64
    np.testing.assert_allclose(value, naive(logits.tolist(), labels.tolist()), rtol=0, atol=1e-12)


@makers
def test_streaming_equals_one_go(make: Callable[[], Metric]) -> None:
    logits, labels = draw(1, 200)
    whole, streamed = make(), make()
    whole.update(logits, labels)
    for rows in torch.randperm(200, generator=torch.Generator().manual_seed(0)).split(37):
        streamed.update(logits[rows], labels[rows])
    torch.testing.assert_close(streamed.compute(), whole.compute(), rtol=0, atol=1e-14)


@makers
def test_merging_halves_equals_the_whole(make: Callable[[], Metric]) -> None:
    logits, labels = draw(2, 101)
    whole, first, second = make(), make(), make()
    whole.update(logits, labels)
    first.update(logits[:30], labels[:30])
    second.update(logits[30:], labels[30:])
    first.compute()
    first.merge_state(second)
    torch.testing.assert_close(first.compute(), whole.compute(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("begun", [0, 1])
def test_a_collection_keeps_metrics_apart_that_have_begun_alike(begun: int) -> None:
    """torchmetrics takes those for one whose states are the same after the first update."""
    sure, (logits, labels) = torch.tensor([[25.0, 0.0, 0.0, 0.0]], dtype=torch.float64), draw(5, 60)
    whole = MetricCollection({str(number): make() for number, make in enumerate(MAKERS)})
    whole.update(sure[:begun], torch.zeros(begun, dtype=torch.int64))
    whole.update(logits, labels)
    found = whole.compute()
    for number, make in enumerate(MAKERS):
        alone = make()
        alone.update(torch.cat([sure[:begun], logits]), torch.cat([torch.zeros(begun, dtype=torch.int64), labels]))
        torch.testing.assert_close(found[str(number)], alone.compute(), rtol=0, atol=1e-14)


@makers
@pytest.mark.parametrize("cast", [lambda m: m.to(torch.bfloat16), lambda m: m.half(), lambda m: m.to("cpu")])
def test_sums_stay_in_float64_whatever_a_metric_is_cast_to(make: Callable[[], Metric], cast: Any) -> None:
    logits, labels = draw(6, 300)
    whole, parent = make(), torch.nn.ModuleDict({"metric": make()})
    metric = cast(parent)["metric"]
    for rows in torch.arange(300).split(50):
        metric.update(logits[rows], labels[rows])
        cast(parent)
    whole.update(logits, labels)
    assert metric.compute().dtype == torch.float64
    torch.testing.assert_close(metric.compute(), whole.compute(), rtol=0, atol=1e-14)


def of_part(number: int, size: int) -> Tensor:
    """The metric of all ranks, of which the first has so many examples and the other the rest of 101."""
    logits, labels = draw(2, 101)
    rows = slice(0, size) if torch.distributed.get_rank() == 0 else slice(size, None)
    metric = MAKERS[number]()
    if len(labels[rows]):
        metric.update(logits[rows], labels[rows])
    return metric.compute()


@pytest.mark.parametrize("size", [30, 101])
@pytest.mark.parametrize("number", range(len(MAKERS)))
def test_ranks_with_parts_have_the_value_of_the_whole(pair: Pair, number: int, size: int) -> None:
    whole = MAKERS[number]()
    whole.update(*draw(2, 101))
    for value in pair.run(of_part, number, size):
        torch.testing.assert_close(value, whole.compute(), rtol=0, atol=1e-14)


def counted_of_part() -> tuple[list[int], int]:
    """Examples in the bins of all ranks, and in the state of this one afterwards."""
    metric = CalibrationError(num_bins=1)
    metric.update(*draw(2, 10 + torch.distributed.get_rank()))
    return metric.bins.counts.tolist(), int(metric.counts.sum())


def test_bins_are_those_of_all_ranks(pair: Pair) -> None:
    assert pair.run(counted_of_part) == [([21], 10), ([21], 11)]


@makers
def test_states_are_added_up_or_gathered_over_ranks_and_never_narrow(make: Callable[[], Metric]) -> None:
    metric = make()
    metric.update(*draw(0, 5, torch.float32))
    assert metric._defaults
    for name, value in metric.metric_state.items():
        gathered, own = isinstance(value, list), name.startswith("settings_of_")  # the same on all ranks
        reduced = "dim_zero_cat" if gathered else "dim_zero_max" if own else "dim_zero_sum"
        assert metric._reductions[name].__name__ == reduced
        assert {part.dtype for part in (value if gathered else [value])} <= {torch.float64, torch.int64}


@makers
def test_an_empty_metric_is_nan(make: Callable[[], Metric]) -> None:
    metric = make()
    assert metric.compute().isnan().all()
    metric.update(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    assert metric.compute().isnan().all()
    metric.update(*draw(3, 50))
    assert metric.compute().isfinite().all()
    metric.reset()
    assert metric.compute().isnan().all()


@makers
def test_a_call_gives_the_value_of_its_batch(make: Callable[[], Metric]) -> None:
    metric, alone = make(), make()
    metric(*draw(4, 30))
    alone.update(*draw(5, 30))
    torch.testing.assert_close(metric(*draw(5, 30)), alone.compute())


@makers
def test_the_input_is_left_alone(make: Callable[[], Metric]) -> None:
    logits, labels = draw(6, 20)
    kept = logits.clone(), labels.clone()
    make().update(logits, labels)
    assert torch.equal(logits, kept[0])
    assert torch.equal(labels, kept[1])


def hand(metric: Metric, logits: Any, labels: Any) -> None:
    """An update without the checker of annotations, which would speak first."""
    inspect.unwrap(type(metric).update)(metric, logits, labels)


FOUR, LABELS = torch.zeros(3, 4), torch.tensor([0, 1, 3])
REFUSED: dict[str, tuple[Any, Any, str]] = {
    "too few labels": (FOUR, LABELS[:2], r"takes logits \[B, C\] and labels \[B\], not \(3, 4\) and \(2,\)"),
    "one row": (FOUR[0], LABELS, r"not \(4,\) and \(3,\)"),
    "one-hot labels": (FOUR, FOUR.long(), r"not \(3, 4\) and \(3, 4\)"),
    "no classes": (FOUR[:, :0], LABELS, r"not \(3, 0\) and \(3,\)"),
    "labels of floats": (FOUR, LABELS.float(), "float logits and integer labels, not torch.float32 and torch.float32"),
    "logits of integers": (FOUR.long(), LABELS, "not torch.int64 and torch.int64"),
    "an array": (
        FOUR.numpy(),
        LABELS,
        r"logits is of type ndarray: give a torch tensor, as torch.from_numpy\(logits\)",
    ),
    "a list": (FOUR, [0, 1, 3], "labels is of type list: give a torch tensor"),
    "another device": (FOUR.to("meta"), LABELS, "logits are on meta and the labels on cpu"),
    "the metric elsewhere": (FOUR.to("meta"), LABELS.to("meta"), "metric is on cpu and its logits on meta"),
    "a label too high": (FOUR, LABELS + 1, r"^Example 2 of the update has a label outside 0…3 \(1 of 3 do\)\.$"),
    "a label below 0": (FOUR, LABELS - 1, "Example 0 of the update has a label outside 0…3"),
    "NaN": (FOUR * math.nan, LABELS, r"Example 0 of the update has logits that make no probabilities.*\(3 of 3 do\)"),
    "inf": (FOUR.index_fill(0, LABELS[1], math.inf), LABELS, "Example 1 of the update has logits"),
    "no class left": (FOUR.index_fill(0, LABELS[1], -math.inf), LABELS, "Example 1 of the update has logits"),
}


@makers
def test_every_metric_looks_at_what_it_is_given(make: Callable[[], Metric]) -> None:
    metric = make()
    for logits, labels, message in REFUSED.values():
        with pytest.raises(UserError, match=message):
            hand(metric, logits, labels)
    assert metric.compute().isnan().all(), "what is refused leaves a trace"


@makers
def test_labels_are_integers_of_any_type(make: Callable[[], Metric]) -> None:
    logits, labels = draw(8, 30)
    metric = make()
    metric.update(logits, labels)
    for dtype in (torch.uint8, torch.int16, torch.int32):
        other = make()
        hand(other, logits, labels.to(dtype))
        torch.testing.assert_close(other.compute(), metric.compute(), rtol=0, atol=0)


def test_truth_values_are_labels_of_two_classes() -> None:
    metric = Accuracy()
    hand(metric, torch.tensor([[0.0, 1.0], [0.0, 1.0]]), torch.tensor([True, False]))
    assert metric.compute() == 0.5


@makers
def test_no_update_waits_for_a_value(make: Callable[[], Metric]) -> None:
    metric = make().to("meta")  # has no values to wait for
    hand(metric, FOUR.to("meta"), LABELS.to("meta"))


@makers
def test_what_an_accelerator_was_given_is_told_when_it_is_computed(make: Callable[[], Metric]) -> None:
    metric = make()
    metric.update(*draw(0, 5))
    metric.refused += torch.tensor([2, 1])
    with pytest.raises(UserError, match=r"2 have a label outside 0…C-1 and 1 have logits that make no probabilities"):
        metric.compute()
    metric.reset()
    metric.update(*draw(0, 5))
    assert metric.compute().isfinite().all()


@needs_gpus()
@makers
def test_labels_outside_do_a_gpu_no_harm(make: Callable[[], Metric]) -> None:
    metric = make().cuda()
    hand(metric, FOUR.cuda(), LABELS.cuda() + 1)
    with pytest.raises(UserError, match="Of the examples of this metric 1 have a label outside"):
        metric.compute()
    metric.reset()
    logits, labels = draw(0, 60)
    metric.update(logits.cuda(), labels.cuda())
    whole = make()
    whole.update(logits, labels)
    torch.testing.assert_close(metric.compute().cpu(), whole.compute(), rtol=0, atol=1e-12)


@makers
def test_a_model_that_has_diverged_is_measured_all_the_same(make: Callable[[], Metric]) -> None:
    metric = make()
    metric.add(FOUR.double() * math.nan, LABELS)
    assert isinstance(metric, Accuracy | ClassAccuracy) or metric.compute().isnan().any()


def at_confidence(p: float) -> list[float]:
    """Two logits whose softmax gives class 0 exactly p, in float64."""
    return [math.log(p), math.log1p(-p)]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_an_edge_belongs_to_the_bin_below(classes: int) -> None:
    metric = CalibrationError(num_bins=30)
    metric.update(torch.zeros(1, classes), torch.tensor([0]))
    assert metric.counts.tolist().index(1) == 30 // classes - 1


def test_full_confidence_is_in_the_last_bin_and_none_in_the_first() -> None:
    metric = CalibrationError(num_bins=3)
    metric.update(torch.tensor([[1000.0, 0.0]]), torch.tensor([1]))
    assert metric.counts.tolist() == [0, 0, 1]
    assert metric.compute() == 1
    many = CalibrationError(num_bins=3)
    many.update(torch.zeros(1, 1000), torch.tensor([1]))
    assert many.counts.tolist() == [1, 0, 0]


@pytest.mark.parametrize("make", [Accuracy, lambda: ClassAccuracy(3), CalibrationError])
def test_the_lowest_class_wins_a_tie(make: Callable[[], Metric]) -> None:
    metric = make()
    metric.update(torch.tensor([[1.0, 2.0, 2.0]] * 2), torch.tensor([1, 2]))
    assert metric.correct.sum() == 1


def test_what_is_known_by_hand() -> None:
    logits = torch.tensor([at_confidence(0.8), at_confidence(0.8), at_confidence(0.3)], dtype=torch.float64)
    labels = torch.tensor([0, 1, 1])
    expected = {
        CalibrationError: (2 * abs(0.8 - 0.5) + abs(0.7 - 1)) / 3,
        NegativeLogLikelihood: -(math.log(0.8) + math.log(0.2) + math.log(0.7)) / 3,
        Brier: 2 * (0.2**2 + 0.8**2 + 0.3**2) / 3,
        Accuracy: 2 / 3,
    }
    for kind, value in expected.items():
        metric = kind()
        metric.update(logits, labels)
        assert metric.compute().item() == pytest.approx(value, abs=1e-12)


def test_a_masked_label_has_an_infinite_score_and_a_finite_error() -> None:
    logits, labels = torch.tensor([[0.0, -math.inf]]), torch.tensor([1])
    nll, brier = NegativeLogLikelihood(), Brier()
    nll.update(logits, labels)
    brier.update(logits, labels)
    assert nll.compute() == math.inf
    assert brier.compute() == 2


@pytest.mark.parametrize(
    "make", [ClassAccuracy, ClasswiseCalibrationError, BrierTerms, BiasedSquaredKernelCalibrationError]
)
def test_another_number_of_classes_is_refused(make: Callable[[int], Metric]) -> None:
    with pytest.raises(UserError, match="Logits of 4 classes, for num_classes=3"):
        make(3).update(*draw(0, 5))


def test_no_bins_and_too_many_are_refused() -> None:
    with pytest.raises(UserError, match=r"^num_bins=10001 of CalibrationError is not a whole number in 1…10,000\.$"):
        CalibrationError(num_bins=10_001)
    for make in (CalibrationError, EqualMassCalibrationError, MaximumCalibrationError):
        with pytest.raises(UserError, match=f"num_bins=0 of {make.__name__} is not a whole number in 1…10,000"):
            make(num_bins=0)
    for of_classes in (ClasswiseCalibrationError, BrierTerms):
        with pytest.raises(UserError, match=f"num_bins=0 of {of_classes.__name__} is not a whole number in 1…10,000"):
            of_classes(4, num_bins=0)
    with pytest.raises(UserError, match="min_count=0 of MaximumCalibrationError is not a whole number >= 1"):
        MaximumCalibrationError(min_count=0)


@pytest.mark.parametrize("wrong", [1.5, "15", None, True])
def test_numbers_that_are_not_whole_are_refused(wrong: Any) -> None:
    with pytest.raises(UserError, match=r"^num_bins=.* of CalibrationError is not a whole number in 1…10,000\.$"):
        begun(BinnedMetric, CalibrationError, wrong)
    with pytest.raises(UserError, match=r"^num_classes=.* of ClasswiseCalibrationError is not a whole number >= 1\.$"):
        begun(ClasswiseMetric, ClasswiseCalibrationError, wrong)


def begun(base: Any, kind: Any, *given: Any) -> None:
    """A metric as its base begins it, without the checker of annotations, which would speak first."""
    inspect.unwrap(base.__init__)(kind.__new__(kind), *given)


@pytest.mark.parametrize(
    "make", [ClassAccuracy, ClasswiseCalibrationError, BrierTerms, BiasedSquaredKernelCalibrationError]
)
@pytest.mark.parametrize("classes", [0, -1])
def test_no_classes_are_refused(make: Callable[[int], Metric], classes: int) -> None:
    with pytest.raises(UserError, match=rf"^num_classes={classes} of \w+ is not a whole number >= 1\.$"):
        make(classes)


@pytest.mark.parametrize("bad", [0.0, math.nan])
def test_numbers_out_of_range_are_refused(bad: float) -> None:
    with pytest.raises(UserError, match=f"width={bad} of MaximumMeanCalibrationError is not a number > 0"):
        MaximumMeanCalibrationError(width=bad)
    with pytest.raises(UserError, match=f"coverage={bad} is not a number above 0"):
        RiskAtCoverage(bad)
    with pytest.raises(UserError, match=f"risk={bad - 1} is not a number in 0…1"):
        CoverageAtRisk(bad - 1)


def test_bins_hold_what_the_error_is_made_of() -> None:
    logits, labels = draw(7, 300)
    metric = CalibrationError(num_bins=12)
    metric.update(logits, labels)
    bins = metric.bins
    confidence, right = logits.softmax(-1).amax(-1).numpy(), (logits.argmax(-1) == labels).numpy()
    held = [(confidence > b / 12) & (confidence <= (b + 1) / 12) for b in range(12)]
    assert bins.counts.tolist() == [int(member.sum()) for member in held]
    for b, member in enumerate(held):
        expected = (confidence[member].mean(), right[member].mean()) if member.any() else (math.nan, math.nan)
        np.testing.assert_allclose((bins.confidence[b], bins.accuracy[b]), expected, rtol=0, atol=1e-12)
    weighted = (bins.counts * bins.gaps).nansum() / bins.counts.sum()
    torch.testing.assert_close(weighted, metric.compute(), rtol=0, atol=1e-14)


def test_bins_stay_as_they_were_when_more_examples_come() -> None:
    metric = CalibrationError()
    metric.update(*draw(0, 10))
    before = metric.bins
    metric.update(*draw(1, 10))
    assert (int(before.counts.sum()), int(metric.bins.counts.sum())) == (10, 20)

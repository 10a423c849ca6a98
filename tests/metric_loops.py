"""Each metric of logits and labels as loops over plain numbers."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable
from typing import Any

from torchmetrics import Metric

from poise.metrics import (
    Accuracy,
    AreaUnderGeneralisedRiskCoverage,
    AreaUnderRiskCoverage,
    AverageCalibrationError,
    BiasedSquaredKernelCalibrationError,
    Brier,
    BrierTerms,
    CalibrationError,
    ClassAccuracy,
    ClasswiseCalibrationError,
    CoverageAtRisk,
    DebiasedCalibrationError,
    DebiasedSquaredCalibrationError,
    EqualMassCalibrationError,
    KDECalibrationError,
    KolmogorovSmirnovError,
    MaximumCalibrationError,
    MaximumMeanCalibrationError,
    NegativeLogLikelihood,
    RiskAtCoverage,
    RootMeanSquareCalibrationError,
    SmoothCalibrationError,
    SquaredKernelCalibrationError,
    SweepCalibrationError,
    ThresholdedClasswiseCalibrationError,
    TotalClasswiseCalibrationError,
)

Rows = list[list[float]]


def softmax(row: list[float]) -> list[float]:
    powers = [math.exp(z - max(row)) for z in row]
    return [p / sum(powers) for p in powers]


def first_largest(row: list[float]) -> int:
    return row.index(max(row))


Scored = list[tuple[float, float]]  # what is said of examples, and what share of them it is true of


def top_labels(rows: Rows, labels: list[int]) -> Scored:
    return [(max(softmax(row)), first_largest(row) == y) for row, y in zip(rows, labels, strict=True)]


def in_bin(value: float, bins: int) -> int:
    return next(b for b in range(bins) if value <= (b + 1) / bins or b == bins - 1)


def by_width(scored: Scored, bins: int) -> list[Scored]:
    members: list[Scored] = [[] for _ in range(bins)]
    for value, right in scored:
        members[in_bin(value, bins)].append((value, right))
    return [held for held in members if held]


def by_mass(scored: Scored, bins: int) -> list[Scored]:
    members: list[Scored] = [[] for _ in range(bins)]
    for i, (value, _) in enumerate(sorted(scored)):
        tied = [right for other, right in scored if other == value]
        members[i * bins // len(scored)].append((value, sum(tied) / len(tied)))
    return [held for held in members if held]


def mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


def gap(held: Scored) -> float:
    return abs(sum(value for value, _ in held) - sum(right for _, right in held)) / len(held)


def weighted(members: list[Scored], size: int) -> float:
    return sum(len(held) / size * gap(held) for held in members)


def naive_ece(rows: Rows, labels: list[int], bins: int = 15) -> float:
    return weighted(by_width(top_labels(rows, labels), bins), len(rows))


def naive_equal_mass(rows: Rows, labels: list[int], bins: int = 15) -> float:
    return weighted(by_mass(top_labels(rows, labels), bins), len(rows))


def naive_maximum(rows: Rows, labels: list[int], bins: int = 15, least: int = 1) -> float:
    return max((gap(held) for held in by_width(top_labels(rows, labels), bins) if len(held) >= least), default=math.nan)


def naive_classwise(rows: Rows, labels: list[int], bins: int = 15) -> float:
    one_class = [
        [(softmax(row)[k], float(y == k)) for row, y in zip(rows, labels, strict=True)] for k in range(len(rows[0]))
    ]
    return sum(weighted(by_width(scored, bins), len(rows)) for scored in one_class) / len(one_class)


def naive_nll(rows: Rows, labels: list[int]) -> float:
    return sum(-math.log(softmax(row)[y]) for row, y in zip(rows, labels, strict=True)) / len(rows)


def naive_brier(rows: Rows, labels: list[int]) -> float:
    total = 0.0
    for row, label in zip(rows, labels, strict=True):
        total += sum((p - (k == label)) ** 2 for k, p in enumerate(softmax(row)))
    return total / len(rows)


def naive_accuracy(rows: Rows, labels: list[int]) -> float:
    return sum(first_largest(row) == y for row, y in zip(rows, labels, strict=True)) / len(rows)


def naive_class_accuracy(rows: Rows, labels: list[int]) -> list[float]:
    found = []
    for k in range(4):
        right = [first_largest(row) == k for row, y in zip(rows, labels, strict=True) if y == k]
        found.append(sum(right) / len(right) if right else math.nan)
    return found


def naive_root_mean_square(rows: Rows, labels: list[int]) -> float:
    return math.sqrt(sum(len(held) / len(rows) * gap(held) ** 2 for held in by_width(top_labels(rows, labels), 15)))


def naive_average(rows: Rows, labels: list[int]) -> float:
    return mean(gap(held) for held in by_width(top_labels(rows, labels), 15))


def naive_debiased(rows: Rows, labels: list[int]) -> float:
    total = 0.0
    for held in by_width(top_labels(rows, labels), 15):
        accuracy = mean(right for _, right in held)
        if len(held) > 1:
            total += len(held) / len(rows) * (gap(held) ** 2 - accuracy * (1 - accuracy) / (len(held) - 1))
    return total


def naive_debiased_absolute(rows: Rows, labels: list[int], bins: int = 15) -> float:
    total = 0.0
    for held in by_mass(top_labels(rows, labels), bins):
        accuracy = mean(right for _, right in held)
        about = statistics.NormalDist(0, 1)
        spread, off = math.sqrt(accuracy * (1 - accuracy) / len(held)), gap(held)
        expected = off
        if spread > 0:  # the mean of the absolute value of a normal number
            expected = 2 * spread * about.pdf(off / spread) + off * (1 - 2 * about.cdf(-off / spread))
        total += len(held) / len(rows) * (2 * off - expected)
    return total


def naive_sweep(rows: Rows, labels: list[int]) -> float:
    scored, kept = top_labels(rows, labels), 1
    for bins in range(2, len(rows)):
        accuracies = [mean(right for _, right in held) for held in by_mass(scored, bins)]
        if any(later < earlier - 1e-9 for earlier, later in itertools.pairwise(accuracies)):
            break
        kept = bins
    return naive_equal_mass(rows, labels, kept)


def naive_thresholded(rows: Rows, labels: list[int]) -> float:
    found = []
    for k in range(4):
        scored = [(softmax(row)[k], float(y == k)) for row, y in zip(rows, labels, strict=True)]
        kept = [(value, right) for value, right in scored if value > 1 / 4]
        found.append(weighted(by_width(kept, 15), len(kept)))
    return mean(found)


def naive_brier_terms(rows: Rows, labels: list[int]) -> list[float]:
    terms = [0.0] * 5
    for k in range(4):
        scored = [(softmax(row)[k], float(y == k)) for row, y in zip(rows, labels, strict=True)]
        overall = mean(o for _, o in scored)
        terms[2] += overall * (1 - overall)
        for cell in by_width(scored, 15):
            said, seen, weight = mean(f for f, _ in cell), mean(o for _, o in cell), len(cell) / len(rows)
            terms[0] += weight * (said - seen) ** 2
            terms[1] += weight * (seen - overall) ** 2
            terms[3] += weight * mean((f - said) ** 2 for f, _ in cell)
            terms[4] += weight * mean(2 * (o - seen) * (f - said) for f, o in cell)
    return terms


def naive_ks(rows: Rows, labels: list[int]) -> float:
    scored = top_labels(rows, labels)
    return max(abs(sum(value - right for value, right in scored if value <= at)) for at, _ in scored) / len(rows)


def naive_mmce(rows: Rows, labels: list[int], width: float = 0.4) -> float:
    scored = top_labels(rows, labels)
    pairs = ((a - r) * (b - s) * math.exp(-abs(a - b) / width) for a, r in scored for b, s in scored)
    return math.sqrt(max(sum(pairs), 0)) / len(rows)


def naive_kernel_pairs(rows: Rows, labels: list[int], same: bool) -> float:
    examples = [(softmax(row), y) for row, y in zip(rows, labels, strict=True)]
    total = 0.0
    for i, (p, y) in enumerate(examples):
        for j, (q, z) in enumerate(examples):
            if same or i != j:
                alike = sum(((y == k) - p[k]) * ((z == k) - q[k]) for k in range(4))
                total += math.exp(-math.dist(p, q)) * alike
    return total


def naive_skce(rows: Rows, labels: list[int]) -> float:
    pairs = len(rows) * (len(rows) - 1)
    return naive_kernel_pairs(rows, labels, same=False) / pairs if pairs else math.nan


def naive_biased_skce(rows: Rows, labels: list[int]) -> float:
    return naive_kernel_pairs(rows, labels, same=True) / len(rows) ** 2


def accepted(rows: Rows, labels: list[int]) -> list[tuple[float, float]]:
    """Coverage and risk at each distinct confidence, from the highest down."""
    scored = top_labels(rows, labels)
    found = []
    for at in sorted({value for value, _ in scored}, reverse=True):
        kept = [right for value, right in scored if value >= at]
        found.append((len(kept) / len(rows), 1 - sum(kept) / len(kept)))
    return found


def trapezoids(points: list[tuple[float, float]]) -> float:
    return sum((right - left) * (a + b) / 2 for (left, a), (right, b) in itertools.pairwise(points))


def naive_aurc(rows: Rows, labels: list[int]) -> float:
    points = accepted(rows, labels)
    return trapezoids([(0, points[0][1]), *points])


def naive_augrc(rows: Rows, labels: list[int]) -> float:
    return trapezoids([(0, 0), *((coverage, coverage * risk) for coverage, risk in accepted(rows, labels))])


def naive_coverage_at_risk(rows: Rows, labels: list[int]) -> float:
    return max((coverage for coverage, risk in accepted(rows, labels) if risk <= 0.8), default=math.nan)


def naive_risk_at_coverage(rows: Rows, labels: list[int]) -> float:
    return next(risk for coverage, risk in accepted(rows, labels) if coverage >= 0.6)


CASES: list[tuple[Callable[[], Metric], Callable[[Rows, list[int]], Any]]] = [
    (CalibrationError, naive_ece),
    (lambda: CalibrationError(num_bins=4), lambda rows, labels: naive_ece(rows, labels, 4)),
    (NegativeLogLikelihood, naive_nll),
    (Brier, naive_brier),
    (Accuracy, naive_accuracy),
    (lambda: ClassAccuracy(4), naive_class_accuracy),
    (EqualMassCalibrationError, naive_equal_mass),
    (lambda: EqualMassCalibrationError(num_bins=4), lambda rows, labels: naive_equal_mass(rows, labels, 4)),
    (lambda: MaximumCalibrationError(min_count=1), naive_maximum),
    (lambda: MaximumCalibrationError(5, min_count=3), lambda rows, labels: naive_maximum(rows, labels, 5, 3)),
    (lambda: ClasswiseCalibrationError(4), naive_classwise),
    (lambda: ClasswiseCalibrationError(4, num_bins=3), lambda rows, labels: naive_classwise(rows, labels, 3)),
    (RootMeanSquareCalibrationError, naive_root_mean_square),
    (AverageCalibrationError, naive_average),
    (DebiasedSquaredCalibrationError, naive_debiased),
    (DebiasedCalibrationError, naive_debiased_absolute),
    (lambda: DebiasedCalibrationError(3), lambda rows, labels: naive_debiased_absolute(rows, labels, 3)),
    (SweepCalibrationError, naive_sweep),
    (lambda: TotalClasswiseCalibrationError(4), lambda rows, labels: 4 * naive_classwise(rows, labels)),
    (lambda: ThresholdedClasswiseCalibrationError(4), naive_thresholded),
    (lambda: BrierTerms(4), naive_brier_terms),
    (KolmogorovSmirnovError, naive_ks),
    (MaximumMeanCalibrationError, naive_mmce),
    (lambda: MaximumMeanCalibrationError(0.001), lambda rows, labels: naive_mmce(rows, labels, 0.001)),
    (lambda: SquaredKernelCalibrationError(4), naive_skce),
    (lambda: BiasedSquaredKernelCalibrationError(4), naive_biased_skce),
    (AreaUnderRiskCoverage, naive_aurc),
    (AreaUnderGeneralisedRiskCoverage, naive_augrc),
    (lambda: CoverageAtRisk(0.8), naive_coverage_at_risk),
    (lambda: RiskAtCoverage(0.6), naive_risk_at_coverage),
]
MAKERS = [*(make for make, _ in CASES), SmoothCalibrationError, KDECalibrationError]

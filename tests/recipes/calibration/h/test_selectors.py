import math

import numpy as np
import pytest
import torch
from scipy.stats import foldnorm
from torch import Tensor

from held_out import bent, calibrated_logits
from poise.metrics import ClasswiseCalibrationError, EqualMassCalibrationError, NegativeLogLikelihood
from poise_recipes.calibration.h.selectors import SELECTORS, Selector, classwise, proper_score, top_label

MADE = bent(1000, classes=4)


def in_blocks(size: int) -> tuple[list[Tensor], list[Tensor]]:
    return [part.t() for part in MADE.logits.softmax(-1).split(size)], list(MADE.label.split(size))


def test_the_proper_score_is_the_metric() -> None:
    metric = NegativeLogLikelihood()
    metric.update(MADE.logits, MADE.label)
    assert proper_score(*in_blocks(1000)) == pytest.approx(float(metric.compute()))


def test_classwise_is_the_metric() -> None:
    metric = ClasswiseCalibrationError(4)
    metric.update(MADE.logits, MADE.label)
    assert classwise(*in_blocks(1000)) == pytest.approx(float(metric.compute()))


def test_top_label_is_the_debiased_error_bin_by_bin() -> None:
    """The mean of |gap| were accuracy normal: of a folded normal distribution, as SciPy has it."""
    probability = MADE.logits.softmax(-1)
    confidence, right = probability.amax(1).numpy(), (probability.argmax(1) == MADE.label).numpy()
    order = np.argsort(confidence, kind="stable")
    total = 0.0
    for part in np.array_split(order, np.arange(1, 15) * 1000 // 15):
        accuracy = right[part].mean()
        gap, spread = abs(confidence[part].mean() - accuracy), math.sqrt(accuracy * (1 - accuracy) / len(part))
        expected = foldnorm.mean(gap / spread, scale=spread) if spread > 0 else gap
        total += len(part) * (2 * gap - expected)
    assert top_label(*in_blocks(1000)) == pytest.approx(total / 1000)


def test_debiasing_takes_off_a_third_and_more_of_what_calibrated_logits_show() -> None:
    plain, debiased = 0.0, 0.0
    for seed in range(20):
        made, metric = calibrated_logits(1000, 4, seed=seed), EqualMassCalibrationError()
        metric.update(made.logits, made.label)
        plain += float(metric.compute())
        debiased += top_label([made.logits.softmax(-1).t()], [made.label])
    assert 0 < debiased < 2 / 3 * plain


@pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS)
def test_blocks_do_not_matter(selector: Selector) -> None:
    assert selector(*in_blocks(7)) == pytest.approx(selector(*in_blocks(1000)))


@pytest.mark.parametrize("selector", SELECTORS.values(), ids=SELECTORS)
def test_few_examples_and_probabilities_of_nothing_give_numbers(selector: Selector) -> None:
    probability = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
    for label in (torch.tensor([0, 1]), torch.tensor([2, 2])):
        assert math.isfinite(selector([probability], [label]))
        assert math.isfinite(selector([probability[:, :1]], [label[:1]]))

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from distorted import honest, predictions, skewed
from poise.batch import Predictions
from poise_recipes.calibration.order_invariant import OrderInvariant
from poise_recipes.calibration.temperature_scaling import TemperatureScaling

FITTED = OrderInvariant().fit(skewed(300))


@given(arrays.arrays(np.int64, (4, 4), elements=st.integers(-9, 9)), st.permutations(range(4)))
@settings(max_examples=50, deadline=None)
def test_classes_are_alike(values: Any, order: Any) -> None:
    logits = torch.from_numpy(values).double()
    torch.testing.assert_close(FITTED(logits[:, order]), FITTED(logits)[:, order])


def test_it_calibrates_what_one_temperature_cannot() -> None:
    held_out, test = stretched(3000), stretched(20000, seed=1)
    ours, one = OrderInvariant().fit(held_out), TemperatureScaling().fit(held_out)
    truth = float(F.cross_entropy(honest(20000, seed=1).logits, test.label))
    before, after = (float(F.nll_loss(fitted(test.logits), test.label)) for fitted in (one, ours))
    assert ours.converged
    assert after - truth < 0.3 * (before - truth)


def stretched(size: int, seed: int = 0) -> Predictions:
    """Honest logits, each row multiplied by how far apart its classes are."""
    made = honest(size, seed=seed)
    return predictions(made.logits * made.logits.std(1, keepdim=True), made.label)

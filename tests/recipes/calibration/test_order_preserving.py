import torch
import torch.nn.functional as F

from distorted import skewed
from poise_recipes.calibration.order_invariant import OrderInvariant
from poise_recipes.calibration.order_preserving import OrderPreserving


def test_classes_need_not_be_alike() -> None:
    calibrator, logits = OrderPreserving().fit(skewed(2000)), skewed(20).logits
    assert (calibrator(logits.flip(1)).flip(1) - calibrator(logits)).abs().max() > 0.1


def test_it_is_better_than_what_takes_classes_as_alike_where_they_are_not() -> None:
    held_out, test = skewed(5000, 10), skewed(20000, 10, seed=1)
    ours, alike = OrderPreserving().fit(held_out), OrderInvariant().fit(held_out)
    assert F.nll_loss(ours(test.logits), test.label) < F.nll_loss(alike(test.logits), test.label) - 0.005


def test_what_it_sees_is_in_the_order_of_classes() -> None:
    made = skewed(300)
    order = torch.tensor([2, 0, 3, 1])
    calibrator = OrderPreserving().fit(made)
    calibrator.first = calibrator.first[:, order]
    wanted = OrderPreserving().fit(made)(made.logits)
    torch.testing.assert_close(calibrator(made.logits[:, order]), wanted[:, order])

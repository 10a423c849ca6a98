import logging
import math

import pytest
import torch
import torch.nn.functional as F

from distorted import honest, predictions, skewed, with_masked_class
from poise import registry
from poise.errors import UserError
from poise_recipes.calibration.affine import AffineScaling, centred
from poise_recipes.calibration.temperature_scaling import TemperatureScaling

AFFINE = {
    name: record.attributes
    for name, record in registry.records("calibrator").items()
    if issubclass(registry.load(record), AffineScaling)
}

every_one = pytest.mark.parametrize("name", AFFINE)


def made(name: str) -> AffineScaling:
    calibrator = registry.build("calibrator", name)
    assert isinstance(calibrator, AffineScaling)
    return calibrator


def free(name: str) -> AffineScaling:
    """Without any penalty."""
    record = registry.find("calibrator", name)
    calibrator = registry.build("calibrator", name, **{parameter.name: 0.0 for parameter in record.parameters})
    assert isinstance(calibrator, AffineScaling)
    return calibrator


@every_one
def test_it_is_better_than_one_temperature_where_classes_are_unlike(name: str) -> None:
    held_out, test = skewed(2000), skewed(5000, seed=1)
    one, ours = TemperatureScaling().fit(held_out), made(name).fit(held_out)
    assert F.nll_loss(ours(held_out.logits), held_out.label) < F.nll_loss(one(held_out.logits), held_out.label)
    assert F.nll_loss(ours(test.logits), test.label) < F.nll_loss(one(test.logits), test.label) - 0.01
    assert ours.converged


@every_one
def test_what_is_calibrated_stays_so(name: str) -> None:
    held_out = honest(20000)
    found = made(name).fit(held_out)
    assert (found(held_out.logits).exp() - held_out.logits.softmax(1)).abs().mean() < 0.005
    uncalibrated = F.cross_entropy(held_out.logits, held_out.label)
    assert uncalibrated - 1e-3 < F.nll_loss(found(held_out.logits), held_out.label) <= uncalibrated


@every_one
def test_what_is_added_to_a_row_changes_nothing(name: str) -> None:
    held_out, added = skewed(200), torch.linspace(-50, 50, 200, dtype=torch.float64)[:, None]
    found, moved = made(name).fit(held_out), made(name).fit(predictions(held_out.logits + added, held_out.label))
    torch.testing.assert_close(moved(held_out.logits), found(held_out.logits), rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found(held_out.logits + added), found(held_out.logits))


@every_one
@pytest.mark.parametrize("order", [[1, 0, 2, 3], [3, 0, 1, 2]])
def test_the_order_of_classes_does_not_matter(name: str, order: list[int]) -> None:
    held_out = skewed(200)
    label = torch.tensor(order).argsort()[held_out.label]
    found = made(name).fit(held_out)(held_out.logits)
    reordered = made(name).fit(predictions(held_out.logits[:, order], label))(held_out.logits[:, order])
    torch.testing.assert_close(reordered, found[:, order], rtol=1e-5, atol=1e-5)


@every_one
def test_a_masked_class_changes_nothing(name: str) -> None:
    held_out = skewed(200)
    masked = with_masked_class(held_out)
    plain, found = made(name).fit(held_out), made(name).fit(masked)
    calibrated = found(masked.logits)
    torch.testing.assert_close(calibrated[:, :-1], plain(held_out.logits))
    assert (calibrated[:, -1] == -math.inf).all()


@every_one
def test_a_class_may_be_masked_in_some_rows(name: str) -> None:
    held_out = skewed(200)
    logits = held_out.logits.clone()
    logits[::2][F.one_hot((held_out.label[::2] + 1) % 4, 4).bool()] = -math.inf
    found = made(name).fit(predictions(logits, held_out.label))
    calibrated = found(logits)
    assert found.converged
    assert torch.equal(calibrated == -math.inf, logits == -math.inf)
    torch.testing.assert_close(calibrated.exp().sum(1), torch.ones(200, dtype=torch.float64))


@every_one
def test_gradients_pass_a_masked_class(name: str) -> None:
    logits = torch.tensor([[1.0, -math.inf, 0.0, 0.5]], requires_grad=True)
    made(name).fit(skewed(100))(logits)[0, 0].backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] > 0


@every_one
def test_it_tells_how_far_its_fit_is(name: str) -> None:
    told: list[float] = []
    calibrator = made(name)
    with calibrator.watched(told.append):
        calibrator.fit(skewed(200))
    assert sum(told) == pytest.approx(1)
    assert len([share for share in told if share > 0]) > 2


@every_one
def test_separable_classes_have_no_optimum_without_a_penalty(name: str, caplog: pytest.LogCaptureFixture) -> None:
    sure = torch.tensor([[2.0, 0, 0], [2, 0, 1], [0, 2, 0], [1, 2, 0], [0, 0, 2], [3.0, 0, 2.9]], dtype=torch.float64)
    held_out = predictions(sure, torch.tensor([0, 0, 1, 1, 2, 2]))
    with caplog.at_level(logging.WARNING, "poise"):
        found = free(name).fit(held_out)
    assert not found.converged
    assert f"{name}: no optimum was found; separable classes have none without a penalty" in caplog.text
    assert torch.equal(found(sure).argmax(1), held_out.label)
    assert found.coefficients.isfinite().all()


@every_one
def test_rows_that_are_all_right_leave_the_model_nearly_as_it_is(name: str) -> None:
    logits = 5 * torch.eye(4)
    calibrated = made(name).fit(predictions(logits, torch.arange(4)))(logits)
    torch.testing.assert_close(calibrated.diagonal().exp(), logits.softmax(1).diagonal(), rtol=0, atol=0.01)
    assert calibrated.isfinite().all()


@every_one
def test_a_class_without_examples_keeps_a_probability(name: str) -> None:
    held_out = predictions(skewed(200).logits, skewed(200).label.clamp(max=2))
    assert made(name).fit(held_out)(held_out.logits)[:, 3].exp().mean() > 1e-3


@every_one
def test_a_number_of_classes_that_it_was_not_fitted_to_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=f"{name} was fitted to 4 classes, and these logits have 5"):
        made(name).fit(skewed(100))(torch.zeros(2, 5))


@every_one
def test_unfitted_it_is_the_softmax(name: str) -> None:
    logits = skewed(20).logits
    torch.testing.assert_close(made(name)(logits), logits.log_softmax(-1))


@every_one
def test_the_prediction_may_change(name: str) -> None:
    held_out = skewed(500)
    assert AFFINE[name]["keeps_prediction"] is False
    assert not torch.equal(made(name).fit(held_out)(held_out.logits).argmax(1), held_out.logits.argmax(1))


def test_centred_rows_have_the_mean_zero_over_what_is_possible() -> None:
    logits = torch.tensor([[1.0, 2.0, 6.0], [1.0, -math.inf, 3.0]])
    assert torch.equal(centred(logits), torch.tensor([[-2.0, -1.0, 3.0], [-1.0, 0.0, 1.0]]))

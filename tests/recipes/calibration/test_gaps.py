import logging
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from distorted import honest, predictions, skewed, with_masked_class
from poise.errors import UserError
from poise_recipes.calibration.gaps import LAYERS, GapScaling, Ranked, depths, heights
from poise_recipes.calibration.order_invariant import OrderInvariant
from poise_recipes.calibration.order_preserving import OrderPreserving
from poise_recipes.calibration.small_network import Network, start
from poise_recipes.calibration.temperature_scaling import TemperatureScaling

CPU = torch.device("cpu")
KINDS = [OrderInvariant, OrderPreserving]

every_one = pytest.mark.parametrize("kind", KINDS)


def anyhow(kind: type[GapScaling], seed: int, classes: int = 4) -> GapScaling:
    """One whose network is no fit's."""
    calibrator, keyed = kind(), torch.Generator().manual_seed(seed)
    for layer, weight in zip(LAYERS, start(CPU, 3, classes, classes - 1), strict=True):
        setattr(calibrator, layer, 3 * torch.randn(weight.shape, generator=keyed, dtype=torch.float64))
    return calibrator


def nll(calibrator: GapScaling | TemperatureScaling, made: Any) -> float:
    return float(F.nll_loss(calibrator(made.logits), made.label))


# -- what is fitted ------------------------------------------------------------------------------------------------


@every_one
@pytest.mark.parametrize("held_out", [skewed(300), honest(300)], ids=["skewed", "honest"])
def test_labels_are_at_least_as_likely_as_after_temperature_scaling(kind: type[GapScaling], held_out: Any) -> None:
    assert nll(kind().fit(held_out), held_out) <= nll(TemperatureScaling().fit(held_out), held_out)


@every_one
def test_what_is_calibrated_stays_so(kind: type[GapScaling]) -> None:
    held_out, test = honest(5000), honest(20000, seed=1)
    before = float(F.cross_entropy(test.logits, test.label))
    assert nll(kind().fit(held_out), test) == pytest.approx(before, abs=2e-3)


@every_one
def test_few_examples_are_fitted_to_their_noise_unless_it_is_held(kind: type[GapScaling]) -> None:
    held_out, test = honest(100), honest(20000, seed=9)
    free, held, fixed = (kind(4, strength).fit(held_out) for strength in (0.01, 1.0, 1e9))
    one = TemperatureScaling().fit(held_out)
    assert nll(free, held_out) < nll(held, held_out) < nll(one, held_out)
    assert nll(held, test) - nll(one, test) < 0.1 * (nll(free, test) - nll(one, test))
    torch.testing.assert_close(fixed(held_out.logits), one(held_out.logits), rtol=0, atol=1e-4)


@every_one
def test_the_penalised_loss_is_flat_at_the_solution(kind: type[GapScaling]) -> None:
    held_out = skewed(400)
    found = kind(3).fit(held_out)
    network = [found.get_buffer(layer).clone().requires_grad_() for layer in LAYERS]
    ranked = Ranked.of(held_out.logits, TemperatureScaling().fit(held_out).temperature)
    mapped = heights(network, depths(found.seen(ranked)), ranked.falling).gather(1, ranked.rank)
    held = sum((now - then).square().sum() for now, then in zip(network, start(CPU, 3, 4, 3), strict=True))
    (F.cross_entropy(mapped, held_out.label) + 4 / 400 * held).backward()
    assert max(float(weight.grad.abs().max()) for weight in network if weight.grad is not None) < 1e-3
    assert found.converged


@every_one
def test_rows_taken_in_blocks_give_the_same(kind: type[GapScaling], monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = skewed(300)
    fitted = kind().fit(held_out)
    whole = fitted(held_out.logits)
    monkeypatch.setattr("poise_recipes.calibration.h.rows.BLOCK", 100)
    torch.testing.assert_close(fitted(held_out.logits), whole)
    torch.testing.assert_close(kind().fit(held_out)(held_out.logits), whole, rtol=0, atol=1e-4)


@every_one
def test_a_masked_class_stays_so_and_the_others_are_calibrated(kind: type[GapScaling]) -> None:
    held_out, test = with_masked_class(skewed(2000)), with_masked_class(skewed(10000, seed=1))
    found = kind().fit(held_out)
    calibrated = found(test.logits)
    assert torch.equal(calibrated == -math.inf, test.logits == -math.inf)
    assert nll(found, test) <= nll(TemperatureScaling().fit(held_out), test) + 1e-3
    low = test.logits.clone()
    low[:, -1] = -1e6
    torch.testing.assert_close(found(low)[:, :-1], calibrated[:, :-1])


@every_one
def test_gradients_pass_masked_classes(kind: type[GapScaling]) -> None:
    logits = torch.tensor([[1.0, -math.inf, 0.0, -math.inf]], requires_grad=True)
    kind().fit(skewed(100))(logits)[0, 0].backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] > 0


@every_one
def test_it_tells_how_far_its_fit_is(kind: type[GapScaling]) -> None:
    told: list[float] = []
    calibrator = kind()
    with calibrator.watched(told.append):
        calibrator.fit(skewed(200))
    assert sum(told) == pytest.approx(1)
    assert len(told) > 1


@every_one
def test_it_fits_where_gradients_are_off(kind: type[GapScaling]) -> None:
    wanted = kind().fit(skewed(100)).first
    with torch.no_grad():
        assert torch.equal(kind().fit(skewed(100)).first, wanted)
    assert not wanted.requires_grad


@every_one
@pytest.mark.parametrize(
    ("logits", "label"),
    [
        (5 * torch.eye(4), torch.arange(4)),
        (-5 * torch.eye(4), torch.arange(4)),
        (torch.zeros(3, 2), torch.arange(3) % 2),
        (torch.tensor([[0.0, -math.inf], [-math.inf, 0.0]]), torch.arange(2)),
    ],
    ids=["separable", "nothing", "one value", "all but one masked"],
)
def test_what_has_no_optimum_gives_probabilities(kind: type[GapScaling], logits: Tensor, label: Tensor) -> None:
    calibrated = kind().fit(predictions(logits, label))(logits)
    torch.testing.assert_close(calibrated.exp().sum(1), torch.ones(len(label)))
    assert torch.equal(calibrated.argmax(1), logits.argmax(1))


@every_one
def test_a_search_that_is_cut_short_is_told(
    kind: type[GapScaling], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("poise_recipes.calibration.small_network.ROUNDS", 1)
    monkeypatch.setattr("poise_recipes.calibration.small_network.ROUND", 1)
    with caplog.at_level(logging.WARNING, "poise"):
        assert not kind().fit(skewed(300)).converged
    assert "preserving: the search was ended before its optimum" in caplog.text.replace("invariant", "preserving")


@every_one
def test_a_number_of_classes_that_it_was_not_fitted_to_is_refused(kind: type[GapScaling]) -> None:
    with pytest.raises(UserError, match="was fitted to 4 classes, and these logits have 5"):
        kind().fit(skewed(100))(torch.zeros(2, 5))


@every_one
def test_unfitted_it_is_the_softmax(kind: type[GapScaling]) -> None:
    logits = skewed(20).logits
    torch.testing.assert_close(kind()(logits), logits.log_softmax(-1))


@every_one
def test_what_it_keeps(kind: type[GapScaling]) -> None:
    calibrator = kind(7, 0.5)
    assert (calibrator.hidden, calibrator.strength) == (7, 0.5)
    assert set(calibrator.state_dict()) == {"temperature", "converged", *LAYERS}


# -- the map -------------------------------------------------------------------------------------------------------


def by_hand(network: Network, seen: Any, row: Any) -> Any:
    """A row's logits, each the sum of multiplied gaps below it; `seen` is the row as the network has it."""
    first, first_bias, second, second_bias, last, last_bias = (weight.numpy() for weight in network)
    hidden = np.maximum(first @ (np.log1p(max(row) - seen) - 1.5) + first_bias, 0)
    answer = last @ np.maximum(second @ hidden + second_bias, 0) + last_bias
    factors = np.log1p(np.exp(answer) * (math.e - 1))
    falling = np.sort(row)[::-1]
    return [((falling[:-1] - falling[1:]) * factors)[falling[:-1] <= value].sum() for value in row]


@pytest.mark.parametrize(
    ("kind", "seen"), [(OrderInvariant, lambda row: np.sort(row)[::-1]), (OrderPreserving, np.array)]
)
def test_it_is_the_sum_of_gaps_and_factors(kind: type[GapScaling], seen: Callable[[Any], Any]) -> None:
    calibrator, logits = anyhow(kind, 1), skewed(20).logits
    network = [calibrator.get_buffer(layer) for layer in LAYERS]
    wanted = np.array([by_hand(network, seen(row), row) for row in logits.numpy()])
    torch.testing.assert_close(calibrator(logits), torch.from_numpy(wanted).log_softmax(1), rtol=1e-6, atol=1e-6)


@every_one
@given(arrays.arrays(np.float32, (4, 4), elements=st.floats(-50, 50, width=32)), st.integers(0, 99), st.booleans())
@settings(max_examples=50, deadline=None)
def test_the_prediction_never_changes(kind: type[GapScaling], values: Any, seed: int, double: bool) -> None:
    logits = torch.from_numpy(values).to(torch.float64 if double else torch.float32)
    assert torch.equal(anyhow(kind, seed)(logits).argmax(-1), logits.argmax(-1))


@every_one
@given(arrays.arrays(np.int64, (4, 4), elements=st.integers(-9, 9)), st.integers(0, 99))
@settings(max_examples=50, deadline=None)
def test_neither_order_nor_ties_ever_change(kind: type[GapScaling], values: Any, seed: int) -> None:
    logits = torch.from_numpy(values).double()
    calibrated = anyhow(kind, seed)(logits)
    before, after = (z[:, :, None] - z[:, None, :] for z in (logits, calibrated))
    assert torch.equal(before.sign(), after.sign())


@every_one
@given(arrays.arrays(np.int64, (4, 4), elements=st.integers(-9, 9)), st.integers(0, 99))
@settings(max_examples=20, deadline=None)
def test_what_is_added_to_a_row_changes_nothing(kind: type[GapScaling], values: Any, seed: int) -> None:
    logits, calibrator = torch.from_numpy(values).double(), anyhow(kind, seed)
    torch.testing.assert_close(calibrator(logits + 7), calibrator(logits))

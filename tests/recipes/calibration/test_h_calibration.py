import inspect
import logging
import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch import Tensor

from held_out import bent, calibrated_logits, ece, nll, noisy, predictions
from poise.errors import UserError
from poise_recipes.calibration.h.selectors import top_label
from poise_recipes.calibration.h_calibration import MAPPINGS, HCalibration
from poise_recipes.calibration.temperature_scaling import TemperatureScaling

log = logging.getLogger("poise")

every_mapping = pytest.mark.parametrize("mapping", MAPPINGS)


def temperatures(found: HCalibration) -> Tensor:
    """Those of a mixture."""
    return found.temperature * (-found.values[: found.temperatures]).exp()


# -- what is fitted ------------------------------------------------------------------------------------------------


@every_mapping
def test_it_calibrates_what_one_temperature_cannot(mapping: Any) -> None:
    held_out, test = bent(5000), bent(20000, seed=1)
    ours, theirs = HCalibration(mapping).fit(held_out), TemperatureScaling().fit(held_out)
    assert ece(ours, test) < 0.85 * ece(theirs, test)
    assert nll(ours, test) < nll(theirs, test)
    assert torch.equal(ours(test.logits).argmax(-1), test.logits.argmax(-1))


@pytest.mark.parametrize("size", [180, 500])
def test_it_is_better_than_one_temperature_on_few_examples(size: int) -> None:
    test = bent(20000, seed=9)
    fits = [bent(size, seed=seed) for seed in range(3)]
    ours = sum(nll(HCalibration().fit(held_out), test) for held_out in fits)
    assert ours < sum(nll(TemperatureScaling().fit(held_out), test) for held_out in fits)


@pytest.mark.parametrize(("size", "above"), [(500, 0.02), (5000, 0.003)])
def test_it_finds_the_share_of_labels_that_are_noise(size: int, above: float) -> None:
    test, truth = noisy(20000, seed=1)
    found = HCalibration().fit(noisy(size)[0])
    assert nll(found, test) < float(F.nll_loss(truth, test.label)) + above
    weight = found.values[found.temperatures :].softmax(0)
    assert 0.02 < weight[temperatures(found) > 7].sum() < 0.08


@every_mapping
def test_what_is_calibrated_stays_so(mapping: Any) -> None:
    held_out, test = calibrated_logits(5000, 10), calibrated_logits(20000, 10, seed=1)
    before = float(F.nll_loss(test.logits, test.label))
    assert nll(HCalibration(mapping).fit(held_out), test) == pytest.approx(before, abs=1e-3)


def test_the_step_that_is_kept_has_the_least_nll_of_all() -> None:
    held_out = bent(300)
    kept = [nll(HCalibration(steps=steps).fit(held_out), held_out) for steps in (1, 3, 30)]
    start = TemperatureScaling().fit(held_out)
    assert kept[1] <= kept[0] + 1e-12
    assert kept[2] < nll(start, held_out)


def test_a_label_that_no_temperature_makes_likely_does_not_decide_which_step_is_kept() -> None:
    made, absurd = calibrated_logits(60, 10, seed=1), 5000.0 * F.one_hot(torch.tensor([0]), 10)
    held_out = predictions(torch.cat([made.logits, absurd]), torch.cat([made.label, torch.tensor([1])]))
    start, found = (HCalibration(steps=steps, lowest=0.5, highest=2.0).fit(held_out) for steps in (1, 30))
    assert nll(found, made) < nll(start, made)


def test_fitting_twice_gives_the_same_and_draws_nothing() -> None:
    held_out = bent(200)
    before = torch.random.get_rng_state()
    once = HCalibration(steps=15).fit(held_out)
    again = HCalibration(steps=15).fit(bent(100)).fit(held_out)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in once.state_dict().items())


def test_it_fits_where_gradients_are_off_and_leaves_the_predictions_alone() -> None:
    held_out = bent(100)
    kept = held_out.logits.clone()
    wanted = HCalibration(steps=15).fit(held_out).values
    with torch.no_grad():
        assert torch.equal(HCalibration(steps=15).fit(held_out).values, wanted)
    assert torch.equal(held_out.logits, kept)
    assert not wanted.requires_grad


@every_mapping
def test_a_masked_class_changes_nothing(mapping: Any) -> None:
    held_out = bent(200)
    masked = torch.cat([held_out.logits, torch.full((200, 1), -math.inf, dtype=torch.float64)], 1)
    plain, found = (
        HCalibration(mapping, steps=15).fit(each) for each in (held_out, predictions(masked, held_out.label))
    )
    torch.testing.assert_close(found.values, plain.values)
    calibrated = found(masked)
    torch.testing.assert_close(calibrated[:, :-1], plain(held_out.logits))
    assert (calibrated[:, -1] == -math.inf).all()


@every_mapping
def test_gradients_pass_a_masked_class(mapping: Any) -> None:
    logits = torch.tensor([[1.0, -math.inf, 0.0]], requires_grad=True)
    HCalibration(mapping, steps=15).fit(bent(50, 3))(logits)[0, 0].backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] > 0


@every_mapping
def test_large_logits_are_fitted_as_small_ones(mapping: Any) -> None:
    held_out = bent(400)
    large = predictions(held_out.logits * 16 + 1e4, held_out.label)
    found, wanted = (HCalibration(mapping, steps=15).fit(each) for each in (large, held_out))
    torch.testing.assert_close(found(large.logits), wanted(held_out.logits), rtol=1e-6, atol=1e-6)


@every_mapping
@pytest.mark.parametrize(
    ("logits", "label"),
    [
        (5 * torch.eye(4), torch.arange(4)),
        (torch.eye(4)[[0, 0, 0]], torch.zeros(3, dtype=torch.long)),
        (torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1])),
    ],
    ids=["separable", "one class", "two examples"],
)
def test_examples_that_are_all_right_change_nothing(
    mapping: Any, logits: Tensor, label: Tensor, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "poise"):
        found = HCalibration(mapping).fit(predictions(logits, label))
    assert found.hit_bound
    assert "h_calibration: every example is predicted right, which tells of no map" in caplog.text
    assert torch.equal(found(logits), HCalibration()(logits))
    assert found.settled == ""


def test_logits_that_say_nothing_stay_within_bounds(caplog: pytest.LogCaptureFixture) -> None:
    logits, label = -5 * torch.eye(4), torch.arange(4)
    with caplog.at_level(logging.WARNING, "poise"):
        found = HCalibration().fit(predictions(logits, label))
    temperature = temperatures(found)
    assert found.hit_bound
    assert "a T is a bound of 0.01…100" in caplog.text
    assert temperature.max() == pytest.approx(found.highest)
    assert ((temperature > 0.0099) & (temperature < 100.01)).all()
    assert not found(logits).isnan().any()


def test_a_later_fit_forgets_the_earlier_one() -> None:
    calibrator = HCalibration().fit(predictions(5 * torch.eye(4), torch.arange(4)))
    assert not calibrator.fit(bent(300)).hit_bound


# -- the choice of a mapping ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def automatic() -> tuple[HCalibration, list[float], str]:
    """Fitted to few rows whose labels are noisy; what a bar was told, and the log."""
    told: list[float] = []
    calibrator, lines = HCalibration("automatic", steps=30), Lines()
    with lines, calibrator.watched(told.append):
        calibrator.fit(noisy(300)[0])
    return calibrator, told, "\n".join(lines.told)


class Lines(logging.Handler):
    """Keeps what is logged while it is entered."""

    def __enter__(self) -> "Lines":
        self.told: list[str] = []
        self.before = log.level
        log.setLevel(logging.INFO)
        log.addHandler(self)
        return self

    def __exit__(self, *raised: object) -> None:
        log.removeHandler(self)
        log.setLevel(self.before)

    def emit(self, record: logging.LogRecord) -> None:
        self.told.append(record.getMessage())


def test_the_mapping_with_the_best_score_of_left_out_rows_is_taken(automatic: Any) -> None:
    calibrator, _, told = automatic
    line = next(line for line in told.splitlines() if "left-out" in line)
    scores = {word: float(number) for word, number in (each.split() for each in line.split(": ")[2].split(", "))}
    assert [*scores] == [*MAPPINGS]
    best = min(scores, key=lambda name: scores[name])
    assert MAPPINGS[int(calibrator.chosen)] == best
    assert calibrator.settled == f"{best} by proper_score at T = {float(calibrator.temperature):.4g}"
    wanted = HCalibration(best, steps=30).fit(noisy(300)[0])
    assert wanted.settled == f"{best} at T = {float(wanted.temperature):.4g}"
    assert torch.equal(calibrator.values, wanted.values)


def test_a_bar_is_told_of_every_step_of_the_choice(automatic: Any) -> None:
    _, told, _ = automatic
    assert sum(told) == pytest.approx(1.0)
    assert len(told) > 60
    assert max(told) < 0.2


def test_too_few_examples_get_the_first_mapping(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "poise"):
        found = HCalibration("automatic", steps=3).fit(bent(20))
    assert MAPPINGS[int(found.chosen)] == "mixture"
    assert "20 examples are too few to choose a mapping by" in caplog.text


def test_the_selector_decides_which_step_is_kept() -> None:
    held_out = bent(500)
    by_score, by_label = (
        HCalibration("piecewise", selector=each).fit(held_out) for each in ("proper_score", "top_label")
    )

    def debiased(found: HCalibration) -> float:
        return top_label([found(held_out.logits).exp().t()], [held_out.label])

    assert debiased(by_label) < debiased(by_score)
    assert nll(by_score, held_out) < nll(by_label, held_out)


# -- the map -------------------------------------------------------------------------------------------------------


@st.composite
def calibrators(draw: st.DrawFn) -> tuple[list[float], list[float]]:
    """Log 1/T within the default bounds, and scores of weights."""
    bound = math.log(100)
    each = st.tuples(st.floats(-bound, bound), st.floats(-5, 5))
    inverse, score = zip(*draw(st.lists(each, min_size=2, max_size=5)), strict=True)
    return list(inverse), list(score)


def with_state(state: tuple[list[float], list[float]]) -> HCalibration:
    calibrator = HCalibration(temperatures=len(state[0]))
    calibrator.values = torch.tensor([*state[0], *state[1]], dtype=torch.float64)
    return calibrator


@given(arrays.arrays(np.float32, (4, 3), elements=st.floats(-50, 50, width=32)), calibrators(), st.booleans())
def test_the_prediction_never_changes(values: Any, state: Any, double: bool) -> None:
    logits = torch.from_numpy(values).to(torch.float64 if double else torch.float32)
    assert torch.equal(with_state(state)(logits).argmax(-1), logits.argmax(-1))


@given(arrays.arrays(np.int64, (4, 3), elements=st.integers(-3, 3)), calibrators())
def test_the_order_never_changes(values: Any, state: Any) -> None:
    logits = torch.from_numpy(values).double()
    calibrated = with_state(state)(logits)
    before, after = (z[:, :, None] - z[:, None, :] for z in (logits, calibrated))
    assert torch.equal(before.sign(), after.sign())


@given(arrays.arrays(np.int64, (4, 3), elements=st.integers(-9, 9)), calibrators(), st.integers(-100, 100))
def test_rows_are_log_probabilities_whatever_is_added_to_them(values: Any, state: Any, added: int) -> None:
    logits, calibrator = torch.from_numpy(values).double(), with_state(state)
    calibrated = calibrator(logits)
    torch.testing.assert_close(calibrated.exp().sum(-1), torch.ones(4, dtype=torch.float64))
    torch.testing.assert_close(calibrator(logits + added), calibrated)


@given(arrays.arrays(np.int64, (4, 3), elements=st.integers(-9, 9)), calibrators(), st.permutations(range(3)))
def test_classes_are_alike(values: Any, state: Any, order: list[int]) -> None:
    logits, calibrator = torch.from_numpy(values).double(), with_state(state)
    torch.testing.assert_close(calibrator(logits[:, order]), calibrator(logits)[:, order])


@every_mapping
def test_no_order_changes_in_many_rows_however_large_or_alike(mapping: Any) -> None:
    fitted = HCalibration(mapping).fit(bent(500, classes=5))
    rows = torch.randn(20000, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    for logits in (rows, 1e3 * rows, rows.round()):
        calibrated = fitted(logits)
        assert torch.equal(calibrated.argmax(-1), logits.argmax(-1))
        ranked = calibrated.gather(1, logits.argsort(1, descending=True))
        assert (ranked.diff() <= 0).all()
        torch.testing.assert_close(calibrated.exp().sum(-1), torch.ones(20000, dtype=torch.float64))


def test_the_map_is_the_mixture() -> None:
    logits = bent(20).logits
    calibrator = with_state(([-0.5, 0.7], [0.0, math.log(3)]))
    wanted = 0.25 * (logits * math.exp(-0.5)).softmax(-1) + 0.75 * (logits * math.exp(0.7)).softmax(-1)
    torch.testing.assert_close(calibrator(logits).exp(), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    logits = bent(20).logits
    fitted = HCalibration(steps=15).fit(bent(100))
    assert fitted(logits.to(dtype)).dtype == dtype
    assert fitted.values.dtype == torch.float64


def test_unfitted_it_is_the_softmax() -> None:
    logits = bent(20).logits
    torch.testing.assert_close(HCalibration()(logits), logits.log_softmax(-1))


@every_mapping
def test_state_dict_is_all_of_it(mapping: Any) -> None:
    fitted = HCalibration(mapping, steps=15).fit(bent(100))
    other = HCalibration("automatic")
    other.load_state_dict(fitted.state_dict())
    assert set(fitted.state_dict()) == {"temperature", "values", "chosen", "hit_bound"}
    logits = bent(20, seed=1).logits
    assert torch.equal(other(logits), fitted(logits))


@pytest.mark.parametrize(
    ("name", "value"), [("values", [0.0] * 7), ("chosen", 3), ("chosen", -1), ("temperature", 0.0)]
)
def test_a_state_that_it_cannot_have_is_refused(name: str, value: Any) -> None:
    fitted = HCalibration(steps=1).fit(bent(20))
    state = fitted.state_dict()
    other = HCalibration()
    other.load_state_dict(state | {name: torch.tensor(value, dtype=state[name].dtype)})
    with pytest.raises(UserError, match=r"A state of h_calibration .* fitted with other arguments, or is damaged\."):
        other(bent(20).logits)


def test_what_it_declares() -> None:
    assert HCalibration.default is True
    assert HCalibration.needs == frozenset()
    assert "2506.17968" in HCalibration.paper
    given_values: Any = ("piecewise", "classwise", 0.01, 51, 10, 5, 4, 7, 3, 0.5, 2.0)
    calibrator = HCalibration(*given_values)
    assert tuple(getattr(calibrator, name) for name in inspect.signature(HCalibration).parameters) == given_values


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (0.1, math.inf), (-1.0, 1.0)])
def test_bounds_that_are_none_are_refused(lowest: float, highest: float) -> None:
    with pytest.raises(UserError, match="0 < lowest < highest|has to be a number, above 0"):
        HCalibration(lowest=lowest, highest=highest)


def test_what_nothing_can_be_fitted_to_is_refused() -> None:
    with pytest.raises(UserError, match="label outside 0…2"):
        HCalibration().fit(predictions(torch.zeros(4, 3), torch.tensor([0, 1, 2, 3])))

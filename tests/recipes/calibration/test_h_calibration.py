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
from sklearn.cluster import KMeans
from torch import Tensor

from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.errors import UserError
from poise.metrics import CalibrationError
from poise_recipes.calibration.h_calibration import (
    CLUSTERS,
    ROUNDS,
    HCalibration,
    cluster_sizes,
    h_loss,
    mixture,
    mixture_slopes,
)
from poise_recipes.calibration.temperature_scaling import TemperatureScaling


def predictions(logits: Tensor, label: Tensor) -> Predictions:
    return Predictions(logits=logits, features=None, label=label, group=None, index=torch.arange(len(label)))


def calibrated_logits(size: int, classes: int, seed: int = 0, prior: Tensor | float = 0.0) -> Predictions:
    """Labels drawn from the softmax of the logits."""
    generator = torch.Generator().manual_seed(seed)
    z = 3 * torch.randn(size, classes, generator=generator, dtype=torch.float64) + prior
    return predictions(z.log_softmax(-1), torch.multinomial(z.softmax(-1), 1, generator=generator)[:, 0])


def bent(size: int, classes: int = 10, seed: int = 0) -> Predictions:
    """Logits that one temperature cannot make calibrated: sign(l)·|l|^1.25·1.2 of calibrated ones."""
    made = calibrated_logits(size, classes, seed)
    return predictions(made.logits.sign() * made.logits.abs() ** 1.25 * 1.2, made.label)


def noisy(size: int, seed: int = 0) -> tuple[Predictions, Tensor]:
    """Logits that are too large by a half, a twentieth of the labels drawn anew; and true log-probabilities."""
    made = calibrated_logits(size, 10, seed)
    generator = torch.Generator().manual_seed(seed + 7)
    anew = torch.rand(size, generator=generator) < 0.05
    label = torch.where(anew, torch.randint(10, (size,), generator=generator), made.label)
    return predictions(1.5 * made.logits, label), (0.95 * made.logits.exp() + 0.005).log()


def events(made: Predictions, inverse: float = 1.0) -> tuple[Tensor, Tensor]:
    probability = (made.logits * inverse).softmax(-1).flatten()
    return probability, F.one_hot(made.label, made.logits.shape[1]).double().flatten()


def ece(calibrator: Calibrator, made: Predictions) -> float:
    metric = CalibrationError()
    metric.update(calibrator(made.logits), made.label)
    return float(metric.compute())


def nll(calibrator: Calibrator, made: Predictions) -> float:
    return float(F.nll_loss(calibrator(made.logits), made.label))


# -- the objective -------------------------------------------------------------------------------------------------


def directly(probability: Tensor, occurred: Tensor, window: int) -> tuple[float, Tensor]:
    """The loss and its gradient, one window after the other."""
    order = probability.numpy().argsort(kind="stable")
    gaps = (probability.numpy() - occurred.numpy())[order]
    half, size = window // 2, len(gaps)
    windows = [range(max(j - half, 0), min(j + half + 1, size)) for j in range(size)]
    means = [sum(gaps[t] for t in inside) / (2 * half + 1) for inside in windows]
    sizes = cluster_sizes(probability[order]).tolist()
    cluster = [k for k, held in enumerate(sizes) for _ in range(held)]
    loss = sum(
        sum(abs(m) for m, c in zip(means, cluster, strict=True) if c == k) / max(n, 1) for k, n in enumerate(sizes)
    )
    gradient = torch.zeros(size, dtype=torch.float64)
    for j, inside in enumerate(windows):
        gradient[order[list(inside)]] += np.sign(means[j]) / sizes[cluster[j]] / CLUSTERS / (2 * half + 1)
    return loss / CLUSTERS, gradient


@pytest.mark.parametrize(("size", "classes", "window"), [(60, 5, 41), (60, 5, 40), (7, 3, 201), (100, 2, 1), (2, 2, 0)])
def test_the_loss_and_its_gradient_are_what_windows_one_by_one_give(size: int, classes: int, window: int) -> None:
    probability, occurred = events(calibrated_logits(size, classes), inverse=1.7)
    loss, slope = h_loss(probability.float(), occurred, window)
    wanted, gradient = directly(probability.float().double(), occurred, window)
    assert float(loss) == pytest.approx(wanted, abs=1e-12)
    torch.testing.assert_close(slope, gradient.float(), rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize("values", [[0.5, 0.0, 0.5, 1.0, 0.0, 0.5], [1e-40, 0.0, 1e-38, 1e-39]])
def test_equal_probabilities_keep_their_order(values: list[float]) -> None:
    probability = torch.tensor(values)
    for occurred in torch.eye(len(values), dtype=torch.float64):
        assert float(h_loss(probability, occurred, 1)[0]) == pytest.approx(
            directly(probability.double(), occurred, 1)[0], abs=1e-12
        )


def test_the_slopes_along_temperatures_and_weights_are_those_of_the_mixture() -> None:
    logits = calibrated_logits(50, 5).logits.t()
    logits = logits - logits.amax(0)
    slope = torch.randn(5, 50, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    inverse, weight = torch.tensor([[0.1, 0.7, 2.0], [0.2, 0.5, 0.3]], dtype=torch.float64)
    along_weight, along_inverse = mixture_slopes(logits, inverse, slope)

    def loss(inverse: Tensor, weight: Tensor) -> Tensor:
        return (weight[:, None, None] * (inverse[:, None, None] * logits).softmax(1) * slope).sum()

    torch.testing.assert_close((mixture(logits, inverse, weight) * slope).sum(), loss(inverse, weight))
    wanted = torch.autograd.functional.jacobian(loss, (inverse, weight))
    torch.testing.assert_close((weight * along_inverse, along_weight), wanted)


def test_clusters_are_those_of_k_means_from_the_quantiles() -> None:
    value = torch.rand(3000, generator=torch.Generator().manual_seed(0), dtype=torch.float64).pow(2).sort()[0]
    start = value[((torch.arange(CLUSTERS) + 0.5) / CLUSTERS * len(value)).long()]
    theirs = KMeans(CLUSTERS, init=start[:, None].numpy(), n_init=1, max_iter=ROUNDS, tol=0.0).fit(
        value[:, None].numpy()
    )
    assert cluster_sizes(value).tolist() == np.bincount(theirs.predict(value[:, None].numpy())).tolist()


@given(arrays.arrays(np.float64, st.integers(1, 40), elements=st.sampled_from([0.0, 0.1, 0.1000001, 0.5, 1.0])))
def test_every_event_is_in_one_cluster(values: Any) -> None:
    sizes = cluster_sizes(torch.from_numpy(values).sort()[0])
    assert len(sizes) == CLUSTERS
    assert sizes.sum() == len(values)
    assert (sizes >= 0).all()


@pytest.mark.parametrize("prior", [[0.0, 0.0, 0.0], [4.5, 0.0, 0.0]], ids=["balanced", "unbalanced"])
def test_calibrated_probabilities_have_the_least_loss(prior: list[float]) -> None:
    made = calibrated_logits(20000, 3, prior=torch.tensor(prior))
    grid = (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.3, 1.5)
    losses = {}
    for inverse in grid:
        probability, occurred = events(made, inverse)
        losses[inverse] = float(h_loss(probability.float(), occurred, 201)[0])
    assert min(losses, key=lambda inverse: losses[inverse]) == 1.0


# -- what is fitted ------------------------------------------------------------------------------------------------


def test_it_calibrates_what_one_temperature_cannot() -> None:
    held_out, test = bent(5000), bent(20000, seed=1)
    ours, theirs = HCalibration().fit(held_out), TemperatureScaling().fit(held_out)
    assert ece(ours, test) < 0.7 * ece(theirs, test)
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
    assert 0.02 < found.log_weight[found.log_inverse < -2].exp().sum() < 0.08


def test_what_is_calibrated_stays_so() -> None:
    held_out, test = calibrated_logits(5000, 10), calibrated_logits(20000, 10, seed=1)
    before = float(F.nll_loss(test.logits, test.label))
    assert nll(HCalibration().fit(held_out), test) == pytest.approx(before, abs=1e-3)


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
    once = HCalibration().fit(held_out)
    again = HCalibration().fit(bent(100)).fit(held_out)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(value, again.state_dict()[name]) for name, value in once.state_dict().items())


def test_it_fits_where_gradients_are_off_and_leaves_the_predictions_alone() -> None:
    held_out = bent(100)
    kept = held_out.logits.clone()
    wanted = HCalibration().fit(held_out).log_inverse
    with torch.no_grad():
        assert torch.equal(HCalibration().fit(held_out).log_inverse, wanted)
    assert torch.equal(held_out.logits, kept)
    assert not wanted.requires_grad


def test_a_masked_class_changes_nothing() -> None:
    held_out = bent(200)
    masked = torch.cat([held_out.logits, torch.full((200, 1), -math.inf, dtype=torch.float64)], 1)
    plain, found = HCalibration().fit(held_out), HCalibration().fit(predictions(masked, held_out.label))
    torch.testing.assert_close(found.log_inverse, plain.log_inverse)
    calibrated = found(masked)
    torch.testing.assert_close(calibrated[:, :-1], plain(held_out.logits))
    assert (calibrated[:, -1] == -math.inf).all()


def test_gradients_pass_a_masked_class() -> None:
    logits = torch.tensor([[1.0, -math.inf, 0.0]], requires_grad=True)
    HCalibration().fit(bent(50, 3))(logits)[0, 0].backward()
    assert logits.grad is not None
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] > 0


def test_large_logits_are_fitted_as_small_ones() -> None:
    held_out = bent(1000)
    large = predictions(held_out.logits * 16 + 1e4, held_out.label)
    found, wanted = HCalibration().fit(large), HCalibration().fit(held_out)
    torch.testing.assert_close(found(large.logits), wanted(held_out.logits), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("logits", "label", "bound"),
    [
        (5 * torch.eye(4), torch.arange(4), "lowest"),
        (torch.eye(4)[[0, 0, 0]], torch.zeros(3, dtype=torch.long), "lowest"),
        (-5 * torch.eye(4), torch.arange(4), "highest"),
        (torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 1]), "lowest"),
    ],
    ids=["separable", "one class", "nothing", "two examples"],
)
def test_what_has_no_optimum_stays_within_bounds(
    logits: Tensor, label: Tensor, bound: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "poise"):
        found = HCalibration().fit(predictions(logits, label))
    temperature = (-found.log_inverse).exp()
    assert found.hit_bound
    assert "a T is a bound of 0.01…100" in caplog.text
    assert (temperature.min() if bound == "lowest" else temperature.max()) == pytest.approx(getattr(found, bound))
    assert ((temperature > 0.0099) & (temperature < 100.01)).all()
    assert not found(logits).isnan().any()


def test_a_later_fit_forgets_the_earlier_one() -> None:
    calibrator = HCalibration().fit(predictions(5 * torch.eye(4), torch.arange(4)))
    assert not calibrator.fit(bent(300)).hit_bound


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
    calibrator.log_inverse.copy_(torch.tensor(state[0], dtype=torch.float64))
    calibrator.log_weight.copy_(torch.tensor(state[1], dtype=torch.float64).log_softmax(0))
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


def test_the_map_is_the_mixture() -> None:
    logits = bent(20).logits
    calibrator = with_state(([-0.5, 0.7], [0.0, math.log(3)]))
    wanted = 0.25 * (logits * math.exp(-0.5)).softmax(-1) + 0.75 * (logits * math.exp(0.7)).softmax(-1)
    torch.testing.assert_close(calibrator(logits).exp(), wanted)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_the_dtype_is_kept(dtype: torch.dtype) -> None:
    logits = bent(20).logits
    fitted = HCalibration().fit(bent(100))
    assert fitted(logits.to(dtype)).dtype == dtype
    assert fitted.log_inverse.dtype == torch.float64


def test_unfitted_it_is_the_softmax() -> None:
    logits = bent(20).logits
    torch.testing.assert_close(HCalibration()(logits), logits.log_softmax(-1))


def test_state_dict_is_all_of_it() -> None:
    fitted = HCalibration().fit(bent(100))
    other = HCalibration()
    other.load_state_dict(fitted.state_dict())
    assert set(fitted.state_dict()) == {"log_inverse", "log_weight", "hit_bound"}
    logits = bent(20, seed=1).logits
    assert torch.equal(other(logits), fitted(logits))


def test_what_it_declares() -> None:
    assert HCalibration.default is True
    assert HCalibration.needs == frozenset()
    assert "2506.17968" in HCalibration.paper
    calibrator = HCalibration(4, 51, 10, 0.5, 2.0)
    given_values = [getattr(calibrator, name) for name in inspect.signature(HCalibration).parameters]
    assert given_values == [4, 51, 10, 0.5, 2.0]


@pytest.mark.parametrize(("lowest", "highest"), [(0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (0.1, math.inf), (-1.0, 1.0)])
def test_bounds_that_are_none_are_refused(lowest: float, highest: float) -> None:
    with pytest.raises(UserError, match="0 < lowest < highest"):
        HCalibration(lowest=lowest, highest=highest)


def test_what_nothing_can_be_fitted_to_is_refused() -> None:
    with pytest.raises(UserError, match="label outside 0…2"):
        HCalibration().fit(predictions(torch.zeros(4, 3), torch.tensor([0, 1, 2, 3])))

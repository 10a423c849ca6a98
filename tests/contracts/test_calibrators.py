"""What every registered calibrator keeps, whoever wrote it: nobody is named here."""

import copy
import inspect
import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from annotated_types import Le
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from contracts import docstrings
from gpus import needs_gpus
from poise import registry
from poise.batch import Predictions
from poise.calibrator import Calibrator
from poise.errors import UserError
from poise.registry.bounds import unbound
from ranks import Pair

RECORDS = registry.records("calibrator")
OURS = {name: record for name, record in RECORDS.items() if record.qualified.startswith("poise_recipes.")}

every_calibrator = pytest.mark.parametrize("name", RECORDS)


def predictions(size: int = 60, classes: int = 4, seed: int = 0) -> Predictions:
    """Logits that are too large by a half, with features."""
    generator = torch.Generator().manual_seed(seed)
    honest = 2 * torch.randn(size, classes, generator=generator)
    label = torch.multinomial(honest.softmax(-1), 1, generator=generator)[:, 0]
    features = torch.randn(size, 5, generator=generator)
    return Predictions(1.5 * honest, features, label, group=None, index=torch.arange(size))


def fitted(name: str) -> Calibrator:
    return registry.build("calibrator", name).fit(predictions(), predictions(seed=1))


def state(name: str) -> dict[str, Tensor]:
    """All that is fitted, in this process."""
    return dict(fitted(name).state_dict())


@every_calibrator
def test_it_gives_log_probabilities_in_the_dtype_of_the_logits(name: str) -> None:
    calibrator, logits = fitted(name), predictions(seed=2).logits
    for own in (logits, logits.double()):
        calibrated = calibrator(own)
        assert calibrated.shape == own.shape
        assert calibrated.dtype == own.dtype
        torch.testing.assert_close(calibrated.exp().sum(-1), torch.ones(len(own), dtype=own.dtype))


@every_calibrator
def test_before_it_is_fitted_it_gives_uncalibrated_log_probabilities(name: str) -> None:
    calibrator, logits = registry.build("calibrator", name), predictions(seed=2).logits
    for own in (logits, logits.double(), logits[:, :2], torch.zeros(3, 5).fill_diagonal_(-math.inf)):
        torch.testing.assert_close(calibrator(own), own.log_softmax(-1))


@every_calibrator
def test_other_numbers_of_classes_are_mapped_where_that_is_said_and_else_refused(name: str) -> None:
    for classes in (3, 5):
        logits = predictions(classes=classes).logits
        if RECORDS[name].attributes["any_classes"]:
            calibrated = kept(name, 4)(logits)
            torch.testing.assert_close(calibrated.exp().sum(-1), torch.ones(len(logits)))
        else:
            with pytest.raises(UserError, match=f"^{name} was fitted to 4 classes, and these logits have {classes}"):
                kept(name, 4)(logits)


WRONG: dict[str, tuple[Any, str]] = {
    "integers": (
        torch.zeros(3, 4, dtype=torch.int64),
        r"takes float logits \[N, C\], not torch.int64 of shape \(3, 4\)",
    ),
    "one row": (torch.zeros(4), r"not torch.float32 of shape \(4,\)"),
    "no classes": (torch.zeros(3, 0), r"not torch.float32 of shape \(3, 0\)"),
    "an array": (torch.zeros(3, 4).numpy(), r"logits is of type ndarray: give a torch tensor, as torch.from_numpy"),
}


@every_calibrator
def test_it_says_what_is_wrong_with_logits(name: str) -> None:
    for calibrator in (registry.build("calibrator", name), kept(name, 4)):
        look = inspect.unwrap(type(calibrator).__call__)  # without the checker of annotations, which would speak first
        for logits, message in WRONG.values():
            with pytest.raises(UserError, match=message):
                look(calibrator, logits)


@every_calibrator
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_finite_logits_have_finite_log_probabilities_however_large(name: str, dtype: torch.dtype) -> None:
    most = torch.finfo(dtype).max
    rows = [[most, -most, 0, 1], [-most, most, most, -most], [-most] * 4, [most] * 4, [3, 1, 2, -most], [0, 1, most, 2]]
    logits = torch.tensor(rows, dtype=dtype)
    masked = logits.clone().fill_diagonal_(-math.inf)
    for calibrator in (registry.build("calibrator", name), kept(name, 4)):
        calibrated = calibrator(logits)
        assert calibrated.isfinite().all()
        torch.testing.assert_close(calibrated.exp().sum(-1), torch.ones(len(logits), dtype=dtype))
        assert torch.equal(calibrator(masked).isfinite(), masked.isfinite())
        if RECORDS[name].attributes["keeps_prediction"]:
            assert torch.equal(calibrated.argmax(-1), logits.argmax(-1))


@pytest.mark.parametrize("name", [n for n, record in RECORDS.items() if record.attributes["keeps_prediction"]])
@given(seed=st.integers(0, 2**32), classes=st.integers(2, 6), scale=st.sampled_from([1e-3, 1.0, 30.0, 1e3]))
@settings(max_examples=10, deadline=None)
def test_the_predicted_class_stays_where_that_is_said(name: str, seed: int, classes: int, scale: float) -> None:
    calibrator = kept(name, classes)
    rows = scale * torch.randn(40, classes, generator=torch.Generator().manual_seed(seed))
    for logits in (rows, (rows / scale).round() * scale, rows.double()):  # rounded ones have ties
        assert torch.equal(calibrator(logits).argmax(-1), logits.argmax(-1))


@cache
def kept(name: str, classes: int) -> Calibrator:
    """Fitted once."""
    return registry.build("calibrator", name).fit(predictions(classes=classes), predictions(classes=classes, seed=1))


@every_calibrator
def test_fitting_again_gives_the_same_and_draws_nothing(name: str) -> None:
    before = torch.random.get_rng_state()
    first = state(name)
    assert torch.equal(torch.random.get_rng_state(), before)
    again = registry.build("calibrator", name).fit(predictions(seed=3), predictions(seed=4))
    again.fit(predictions(), predictions(seed=1))
    assert_same(again.state_dict(), first)


@every_calibrator
def test_all_ranks_come_to_the_same(pair: Pair, name: str) -> None:
    first, second = pair.run(state, name)
    assert_same(first, second)
    assert_same(first, state(name))


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@every_calibrator
def test_its_state_is_all_of_it(name: str) -> None:
    calibrator, other = fitted(name), registry.build("calibrator", name)
    other.load_state_dict(calibrator.state_dict())
    assert other.settled == calibrator.settled
    assert "\n" not in calibrator.settled
    assert not calibrator.settled.endswith(".")
    logits = predictions(seed=2).logits
    assert torch.equal(other(logits), calibrator(logits))
    assert not torch.equal(other(logits), registry.build("calibrator", name)(logits)), "fitting changes nothing"
    assert [*calibrator.parameters()] == [], "what is fitted belongs into buffers"


@every_calibrator
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.bfloat16])
def test_a_cast_changes_nothing(name: str, dtype: torch.dtype) -> None:
    logits, expected = predictions(seed=2).logits, kept(name, 4)(predictions(seed=2).logits)
    parent = torch.nn.ModuleDict({"calibrator": copy.deepcopy(kept(name, 4))}).to(dtype)
    assert torch.equal(parent["calibrator"](logits), expected)


@every_calibrator
def test_it_works_where_its_logits_lie(name: str) -> None:
    expected = fitted(name)(predictions(seed=2).logits)
    held_out, unlabelled, logits = predictions(), predictions(seed=1), predictions(seed=2).logits
    calibrator = registry.build("calibrator", name)
    with torch.device("meta"):  # where a tensor comes to lie whose device nobody says
        assert torch.equal(calibrator.fit(held_out, unlabelled)(logits), expected)


@needs_gpus()
@every_calibrator
def test_a_gpu_fits_and_calibrates_alike(name: str) -> None:
    logits = predictions(seed=2).logits
    held_out, unlabelled = (on_a_gpu(predictions(seed=seed)) for seed in (0, 1))
    calibrated = registry.build("calibrator", name).cuda().fit(held_out, unlabelled)(logits.cuda())
    torch.testing.assert_close(calibrated.cpu(), fitted(name)(logits), atol=1e-4, rtol=1e-3)


def on_a_gpu(given: Predictions) -> Predictions:
    assert given.features is not None
    return Predictions(
        given.logits.cuda(), given.features.cuda(), given.label.cuda(), group=None, index=given.index.cuda()
    )


@every_calibrator
def test_labels_may_be_small_integers(name: str) -> None:
    held_out, unlabelled = (replace(each, label=each.label.int()) for each in (predictions(), predictions(seed=1)))
    assert_same(registry.build("calibrator", name).fit(held_out, unlabelled).state_dict(), state(name))


@every_calibrator
def test_it_leaves_what_it_is_fitted_to_alone(name: str) -> None:
    held_out, unlabelled = predictions(), predictions(seed=1)
    registry.build("calibrator", name).fit(held_out, unlabelled)
    assert torch.equal(held_out.logits, predictions().logits)
    assert torch.equal(unlabelled.logits, predictions(seed=1).logits)


@every_calibrator
def test_it_is_fitted_under_inference_mode_too_and_gives_gradients_afterwards(name: str) -> None:
    with torch.inference_mode():
        calibrator, given = registry.build("calibrator", name), (predictions(), predictions(seed=1))
        assert_same(calibrator.fit(*given).state_dict(), kept(name, 4).state_dict())
    logits = predictions(seed=2).logits
    torch.testing.assert_close(slope(calibrator, logits), slope(kept(name, 4), logits), atol=0, rtol=0, equal_nan=True)
    assert_same(calibrator.fit(*given).state_dict(), kept(name, 4).state_dict())


def slope(calibrator: Calibrator, logits: Tensor) -> Tensor:
    """Of the second class's log-probabilities with respect to logits; 0 where no gradient passes."""
    logits = logits.clone().requires_grad_()
    calibrated = calibrator(logits)[:, 1].sum()
    return torch.autograd.grad(calibrated, logits)[0] if calibrated.requires_grad else torch.zeros_like(logits)


@every_calibrator
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_it_looks_at_what_it_is_fitted_to(name: str, wrong: float) -> None:
    held_out = predictions()
    held_out.logits[3, 1] = wrong
    with pytest.raises(UserError, match="Example 3 of the calibration split has logits that are not finite"):
        registry.build("calibrator", name).fit(held_out, predictions(seed=1))


UNLIMITED = {"steps", "patience", "window"}  # these take time, if anything, and no memory


@pytest.mark.parametrize("name", OURS)
def test_sizes_of_ours_have_a_limit(name: str) -> None:
    for parameter in OURS[name].parameters:
        inner, bounds = unbound(parameter.type)
        if inner is int and parameter.name not in UNLIMITED:
            assert any(isinstance(bound, Le) for bound in bounds), f"{parameter.name} may take all memory"


BEYOND = {"Ge": ("ge", -1), "Gt": ("gt", 0), "Le": ("le", 1), "Lt": ("lt", 0)}  # by bound: how far past its limit


@every_calibrator
def test_arguments_beyond_their_bounds_are_refused(name: str) -> None:
    for parameter in RECORDS[name].parameters:
        for bound in unbound(parameter.type)[1]:
            limit, past = BEYOND[type(bound).__name__]
            wrong = getattr(bound, limit) + past
            with pytest.raises(UserError, match=rf"^{parameter.name}={wrong} of \w+ has to be a"):
                registry.build("calibrator", name, **{parameter.name: wrong})


@pytest.mark.parametrize("name", OURS)
def test_ours_say_where_they_are_from(name: str) -> None:
    assert docstrings.missing(OURS[name]) == []

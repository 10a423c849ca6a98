"""The learning rate that follows validation accuracy, against the authors' rule written out."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from poise import RecipeStack, Step
from poise.build import Built
from poise.config import parse
from poise.given import Objects
from poise_recipes import AccelAT

STEP = Step(nn.Linear(1, 1))


def factors(recipe: AccelAT, accuracies: list[float], name: str = "val/robust_accuracy") -> list[float]:
    found = []
    for accuracy in accuracies:
        recipe.on_epoch_end(STEP, {name: accuracy, "val/accuracy": accuracy})
        found.append(recipe.lr_factor(STEP))
    return found


def published(accuracies: list[float], p: int, q: int, theta: float, c: float, floor: float) -> list[float]:
    """The rule in the words of the authors' code, with a window of min(P, n)."""
    means: list[float] = []
    lr, quiet, found = 1.0, q, []
    for n in range(1, len(accuracies) + 1):
        mean = float(np.mean(accuracies[max(0, n - p) : n]))
        quiet += 1
        if len(means) > p and quiet > q and mean - means[-1] < theta:
            lr, quiet = lr * c, 1
        lr = max(lr, floor)
        means.append(mean)
        found.append(lr)
    return found


@given(
    percent=st.lists(st.integers(0, 100), max_size=40),
    window=st.integers(1, 6),
    quiet=st.integers(1, 6),
    floor=st.sampled_from([0.0, 0.3]),
)
@settings(max_examples=60, deadline=None)
def test_factors_are_those_of_the_authors_rule(percent: list[int], window: int, quiet: int, floor: float) -> None:
    accuracies = [number / 100 for number in percent]
    recipe = AccelAT(threshold=0.00123, window=window, quiet=quiet, floor=floor)  # no difference of means lies there
    assert factors(recipe, accuracies) == pytest.approx(published(accuracies, window, quiet, 0.00123, 0.8, floor))


def test_it_waits_for_the_window_then_falls_every_few_epochs() -> None:
    found = factors(AccelAT(), [0.5] * 18)
    assert found[:6] == [1.0] * 6
    assert found[6] == 0.8
    assert found[7:11] == [0.8] * 4
    assert found[11] == pytest.approx(0.64)


def test_accuracy_that_rises_keeps_it() -> None:
    assert factors(AccelAT(), [0.02 * epoch for epoch in range(30)])[-1] == 1.0


def test_without_an_attack_it_follows_clean_accuracy_and_without_validation_nothing() -> None:
    clean, none = AccelAT(window=1, quiet=1), AccelAT(window=1, quiet=1)
    assert factors(clean, [0.5] * 4, name="val/accuracy")[-1] < 1
    for _ in range(4):
        none.on_epoch_end(STEP, {})
    assert none.lr_factor(STEP) == 1.0


def test_its_factor_multiplies_the_stacks() -> None:
    recipe = AccelAT(window=1, quiet=1, factor=0.5)
    factors(recipe, [0.5] * 3)
    assert RecipeStack([recipe]).lr_factor(STEP) == recipe.lr_factor(STEP) == 0.5


def test_a_run_taken_up_decides_as_one_that_was_not_stopped() -> None:
    accuracies = [0.3, 0.5, 0.52, 0.51, 0.5, 0.5, 0.5, 0.5, 0.4, 0.4, 0.4, 0.4]
    whole = factors(AccelAT(window=2, quiet=3), accuracies)
    first, second = AccelAT(window=2, quiet=3), AccelAT(window=2, quiet=3)
    before = factors(first, accuracies[:6])
    second.load_state_dict(first.state_dict())
    assert before + factors(second, accuracies[6:]) == whole


@pytest.mark.parametrize(("schedule", "said"), [("cosine", 1), ("constant", 0)])
def test_a_schedule_that_changes_the_rate_besides_is_spoken_of(
    schedule: str, said: int, caplog: pytest.LogCaptureFixture
) -> None:
    Built(parse(["recipe=accel_at", f"schedule={schedule}"]), Objects()).admit()
    words = f"accel_at changes the learning rate as it trains, and schedule={schedule} changes it besides: "
    assert [line.startswith(words) for line in caplog.messages] == [True] * said

import torch
from torch import Tensor

from held_out import calibrated_logits, noisy, predictions
from poise_recipes.calibration.h.noise import share_of_noise
from poise_recipes.calibration.h.rows import Rows

GRID: Tensor = torch.linspace(-1, 1, 9, dtype=torch.float64)


def test_a_share_of_noise_is_found_with_the_temperature_of_the_others() -> None:
    made = noisy(5000)[0]
    found = share_of_noise(Rows.of(made.logits, made.label, 1.5), GRID, hot=-5.0)
    assert found is not None
    assert found.log_inverse == 0.0, "divided by 1.5 they are as they should be"
    assert abs(found.share - 0.05) < 0.01


def test_there_is_none_in_calibrated_logits() -> None:
    made = calibrated_logits(5000, 10)
    assert share_of_noise(Rows.of(made.logits, made.label, 1.0), GRID, hot=-5.0) is None


def test_few_examples_do_not_show_it() -> None:
    made = noisy(5000)[0]
    few = predictions(made.logits[:3], made.logits[:3].argmax(1))
    assert share_of_noise(Rows.of(few.logits, few.label, 1.5), GRID, hot=-5.0) is None

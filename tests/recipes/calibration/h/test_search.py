import math

import pytest
import torch

from held_out import bent
from poise_recipes.calibration.h import rows
from poise_recipes.calibration.h.descent import Descent
from poise_recipes.calibration.h.mixture import Mixture
from poise_recipes.calibration.h.piecewise import Piecewise
from poise_recipes.calibration.h.search import FOLDS, Found, Search
from poise_recipes.calibration.h.selectors import proper_score

SEARCH = Search(Descent(proper_score, 201, 0.0, steps=10, patience=10), lowest=0.01, highest=100.0)


def test_scores_are_of_rows_that_were_left_out() -> None:
    """A mapping that gains on the rows that it is fitted to, and loses on others, is seen through."""
    made = bent(60)
    many = Search(Descent(proper_score, 201, 0.0, steps=12, patience=12), lowest=0.01, highest=100.0)
    told: list[float] = []
    families = {"straight": lambda before: Piecewise(1), "free": lambda before: Piecewise(300)}
    scores = many.scores(families, made.logits, made.label, told.append)
    own = {name: many.found(each, made.logits, made.label, lambda share: None) for name, each in families.items()}
    seen = {name: proper_score([each(made.logits).exp().t()], [made.label]) for name, each in own.items()}
    assert [*scores] == ["straight", "free"]
    assert scores["free"] > seen["free"]
    assert sum(told) == pytest.approx(1.0)
    assert len(told) <= FOLDS * 2 * 12


def test_bounds_of_a_mixture_are_over_the_temperature_before_it() -> None:
    made = bent(60)
    asked: list[float] = []

    def family(before: float) -> Mixture:
        asked.append(before)
        return Mixture(4, 0.01, 100.0)

    found = SEARCH.found(family, made.logits, made.label, lambda share: None)
    assert asked == [found.temperature]
    assert not found.at_bound


def test_blocks_and_masked_classes_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    logits = bent(20).logits
    logits[3, 2] = -math.inf
    found = Found(2.0, Piecewise(3), torch.tensor([0.1, -0.2, 0.3], dtype=torch.float64))
    whole = found(logits)
    monkeypatch.setattr(rows, "BLOCK", 30)
    torch.testing.assert_close(found(logits), whole)
    assert found(logits)[3, 2] == -math.inf
    assert found(logits[:0]).shape == (0, 10)

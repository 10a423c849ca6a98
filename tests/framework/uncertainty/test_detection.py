import inspect

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve
from torch import Tensor

from poise.errors import UserError
from poise.uncertainty.detection import detection

look = inspect.unwrap(detection)  # without the checker of annotations, which would speak first

ROUND = st.integers(-3, 3).map(float)  # few different values, so many ties
SOME = st.lists(ROUND, min_size=1, max_size=30)


def both(usual: list[float], strange: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """As scikit-learn takes them: which are strange, and scores."""
    return np.array([0] * len(usual) + [1] * len(strange)), np.array([*usual, *strange])


@given(SOME, SOME)
def test_areas_are_those_of_scikit_learn_ties_included(usual: list[float], strange: list[float]) -> None:
    found = detection(torch.tensor(usual), torch.tensor(strange))
    label, score = both(usual, strange)
    assert found.auroc == pytest.approx(roc_auc_score(label, score), abs=1e-12)
    assert found.aupr_out == pytest.approx(average_precision_score(label, score), abs=1e-12)
    assert found.aupr_in == pytest.approx(average_precision_score(1 - label, -score), abs=1e-12)


@given(SOME, SOME)
def test_false_positive_rates_are_those_of_scikit_learns_curve(usual: list[float], strange: list[float]) -> None:
    found = detection(torch.tensor(usual), torch.tensor(strange))
    label, score = both(usual, strange)
    false, true, _ = roc_curve(label, score, drop_intermediate=False)
    assert found.fpr_at_95_ood_recall == pytest.approx(false[true >= 0.95 - 1e-12].min())
    accepted_strange, accepted_usual, _ = roc_curve(1 - label, -score, drop_intermediate=False)
    assert found.fpr_at_95_id_recall == pytest.approx(accepted_strange[accepted_usual >= 0.95 - 1e-12].min())


@given(SOME, SOME)
def test_the_negative_of_a_score_detects_what_the_score_does_not(usual: list[float], strange: list[float]) -> None:
    here, there = torch.tensor(usual), torch.tensor(strange)
    assert detection(here, there).auroc + detection(-here, -there).auroc == pytest.approx(1, abs=1e-12)
    turned = detection(-there, -here)
    assert detection(here, there).fpr_at_95_id_recall == pytest.approx(turned.fpr_at_95_ood_recall)


def test_the_two_false_positive_rates_differ() -> None:
    usual = torch.cat([torch.zeros(95), torch.full((5,), 9.0)])
    strange = torch.cat([torch.full((80,), 5.0), torch.full((20,), -1.0)])
    found = detection(usual, strange)
    assert found.fpr_at_95_id_recall == pytest.approx(0.2)  # 95 usual ones pass up to 0, with 20 strange ones
    assert found.fpr_at_95_ood_recall == 1  # 95 strange ones are flagged from -1 on, as are all usual ones


def test_a_score_that_tells_nothing_is_even_and_a_perfect_one_is_perfect() -> None:
    even = detection(torch.zeros(30), torch.zeros(10)).scores()
    assert even == {
        "auroc": 0.5,
        "aupr_out": 0.25,
        "aupr_in": 0.75,
        "fpr_at_95_id_recall": 1.0,
        "fpr_at_95_ood_recall": 1.0,
    }
    perfect = detection(torch.zeros(30), torch.ones(10)).scores()
    assert perfect == {**dict.fromkeys(perfect, 1.0), "fpr_at_95_id_recall": 0.0, "fpr_at_95_ood_recall": 0.0}


@pytest.mark.parametrize("most", [2, 7, 1000])
def test_a_curve_runs_from_nothing_to_all_through_points_of_the_whole(most: int) -> None:
    usual, strange = torch.randn(50, generator=torch.Generator().manual_seed(0)), torch.linspace(-1, 3, 40)
    found = detection(usual, strange)
    x, y = found.curve(most)
    assert len(x) == len(y) == min(most, 91)
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    points = set(zip((found.usual / 50).tolist(), (found.strange / 40).tolist(), strict=True))
    assert {(float(torch.tensor(a)), float(torch.tensor(b))) for a, b in zip(x, y, strict=True)} <= points


def test_what_is_no_number_is_flagged_first() -> None:
    usual, strange = torch.tensor([0.0, torch.inf]), torch.tensor([torch.nan, -torch.inf])
    assert detection(usual, strange).usual.tolist() == [0, 1, 2, 2]
    assert detection(usual, strange).strange.tolist() == [0, 1, 1, 2]


@pytest.mark.parametrize(("usual", "strange"), [(torch.zeros(0), torch.zeros(3)), (torch.zeros(3), torch.zeros(0))])
def test_nothing_to_tell_apart_is_refused(usual: Tensor, strange: Tensor) -> None:
    with pytest.raises(UserError, match="detection needs some of both"):
        detection(usual, strange)


def test_what_are_no_scores_is_refused() -> None:
    with pytest.raises(UserError, match=r"^strange is of type ndarray: give a torch tensor"):
        look(torch.zeros(3), np.zeros(3))
    with pytest.raises(UserError, match=r"^usual has shape \(3, 1\): detection takes a score for each example"):
        look(torch.zeros(3, 1), torch.zeros(3))

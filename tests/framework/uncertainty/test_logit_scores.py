import inspect
import math
from typing import Any

import pytest
import torch
from scipy import special, stats

from poise.errors import UserError
from poise.uncertainty.energy import energy
from poise.uncertainty.entropy import entropy
from poise.uncertainty.max_logit import max_logit
from poise.uncertainty.msp import msp

LOGITS = 5 * torch.randn(40, 6, generator=torch.Generator().manual_seed(0))


def test_scores_are_those_of_scipy() -> None:
    logits = LOGITS.double().numpy()
    probabilities = special.softmax(logits, axis=1)
    assert msp(LOGITS).numpy() == pytest.approx(-special.log_softmax(logits, axis=1).max(1))
    assert entropy(LOGITS).numpy() == pytest.approx(stats.entropy(probabilities, axis=1))
    assert energy(LOGITS).numpy() == pytest.approx(-special.logsumexp(logits, axis=1))
    assert energy(LOGITS, 3.0).numpy() == pytest.approx(-3 * special.logsumexp(logits / 3, axis=1))
    assert max_logit(LOGITS).numpy() == pytest.approx(-logits.max(1))


def test_what_is_added_to_all_logits_moves_energy_and_the_largest_logit_alone() -> None:
    for score, moved in ((msp, 0.0), (entropy, 0.0), (energy, 2.5), (max_logit, 2.5)):
        assert torch.allclose(score(LOGITS.double() + 2.5), score(LOGITS) - moved, atol=1e-12)


def test_of_normalised_logits_energy_tells_nothing_and_the_largest_logit_no_more_than_msp() -> None:
    normalised = LOGITS.double().log_softmax(1)
    assert energy(normalised).abs().max() < 1e-12
    assert torch.allclose(max_logit(normalised), msp(LOGITS))


def test_confident_examples_are_told_apart_where_probabilities_round_to_one() -> None:
    logits = torch.tensor([[30.0, 0.0], [31.0, 0.0]])
    assert (logits.softmax(1).amax(1) == 1).all()
    assert msp(logits)[0] > msp(logits)[1] > 0


def test_classes_that_cannot_be_take_no_part() -> None:
    logits = torch.tensor([[0.0, 0.0, -math.inf]])
    assert float(entropy(logits)) == pytest.approx(math.log(2))
    assert float(msp(logits)) == pytest.approx(math.log(2))
    assert float(energy(logits)) == pytest.approx(-math.log(2))


@pytest.mark.parametrize("score", [msp, entropy, energy, max_logit])
def test_what_are_no_logits_is_refused(score: Any) -> None:
    look = inspect.unwrap(score)  # without the checker of annotations, which would speak first
    with pytest.raises(UserError, match=r"^logits is of type ndarray: give a torch tensor"):
        look(LOGITS.numpy())
    for logits, told in ((LOGITS[0], r"float32 of shape \(6,\)"), (LOGITS.long(), r"int64 of shape \(40, 6\)")):
        with pytest.raises(UserError, match=rf"^{score.__name__} takes float logits \[N, C\], not torch.{told}\.$"):
            look(logits)


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, math.inf])
def test_energy_has_a_temperature_above_zero(temperature: float) -> None:
    with pytest.raises(UserError, match=rf"^temperature={temperature} of energy is not a number > 0\.$"):
        energy(LOGITS, temperature)

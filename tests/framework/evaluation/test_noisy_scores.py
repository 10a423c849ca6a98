from dataclasses import replace

import torch
from scipy import stats
from torch import Tensor

from poise.evaluation.noisy_scores import noisy_scores
from smoothed import Linear, subject

SIGMA = 0.5
DISTANCES = torch.tensor([-0.6, -0.1, 0.0, 0.3, 0.9])


def positive(logits: Tensor) -> Tensor:
    return (logits > 0).double()


def scored(copies: int, some: Tensor | None = None, stream: str = "a", batch: int = 100, shift: float = 0.0) -> Tensor:
    """Mean and variance of the second class's scores, of points at distances from a plane that an attack shifts."""
    index = torch.arange(5) if some is None else some
    model = Linear(torch.tensor([[0.0], [1.0]]), torch.zeros(2))
    here = subject(model, DISTANCES[:, None], torch.tensor([0, 0, 0, 1, 1]), 2)
    here = replace(here, batch_size=batch)
    data = here.splits.test.rows(index)
    attack = None if not shift else (lambda model, x, label, position: x + shift)
    found = noisy_scores(here, data, index, positive, SIGMA, copies, stream, attack)
    return torch.stack([found.mean[:, 1], found.variance[:, 1]])


def test_moments_are_those_of_the_noise() -> None:
    copies = 20_000
    for shift in (0.0, 0.2):
        mean, variance = scored(copies, shift=shift, batch=3000)
        p = torch.from_numpy(stats.norm.cdf((DISTANCES + shift) / SIGMA)).to(mean)
        assert ((mean - p).abs() <= 5 * (p * (1 - p) / copies).sqrt()).all()
        torch.testing.assert_close(variance, mean * (1 - mean) * copies / (copies - 1), rtol=0, atol=1e-12)


def test_noise_is_keyed_by_position_and_stream_and_not_by_the_others() -> None:
    every = scored(40)
    some = torch.tensor([1, 3])
    torch.testing.assert_close(scored(40, some), every[:, some], rtol=0, atol=1e-15)
    torch.testing.assert_close(scored(40, batch=7), every, rtol=0, atol=1e-15)
    assert not torch.equal(scored(40, stream="b"), every)


def test_of_one_copy_there_is_a_score_and_no_variance() -> None:
    mean, variance = scored(1)
    assert set(mean.tolist()) <= {0.0, 1.0}
    assert variance.tolist() == [0.0] * 5


def test_attacked_inputs_see_the_noise_that_clean_ones_do() -> None:
    clean, attacked = (scored(50, shift=shift)[0] for shift in (0.0, 0.4))
    assert (attacked >= clean).all()
    assert attacked.sum() > clean.sum()

"""Attacks on sets: inside the threat, of every example, and on what the sets are made of."""

import math
from functools import cache

import pytest
import torch
from torch import Tensor, nn

from poise.attacks.threat import Threat
from poise.evaluation.set_attack import SetAttack
from poise.models.classifier import Classifier

COUNT, SIGMA = 60, 0.4
THREAT = Threat("l2", 0.3, None, None)


class Ridge(nn.Module):
    """Two classes of points [N, 2]: up to the plane at 0, and beyond a narrow notch in it no noise would miss."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(4.0, dtype=torch.float64))

    def forward(self, x: Tensor) -> Tensor:
        along, across = x.unbind(1)
        notch = 6 * torch.exp(-(((across - 0.2) / 0.02) ** 2))
        margin = self.scale * (along - 0.3 * across) - notch
        return torch.stack([margin, -margin], 1)


@cache
def model() -> Classifier:
    return Classifier(Ridge(), nn.Identity()).eval()


@cache
def examples() -> tuple[Tensor, Tensor]:
    keyed = torch.Generator().manual_seed(0)
    return torch.randn(COUNT, 2, generator=keyed, dtype=torch.float64), torch.randint(2, (COUNT,), generator=keyed)


def found(attack: SetAttack, rows: Tensor, at_once: int = 1000, seed: int = 0) -> Tensor:
    x, label = examples()
    return attack.on(seed, torch.arange(COUNT), at_once)(model(), x[rows], label[rows], rows)


def strangeness(x: Tensor, sigma: float = 0.0) -> Tensor:
    """Minus the log of the true labels' mean probabilities, over noise of its own."""
    label, copies = examples()[1], 4000 if sigma else 1
    noise = sigma * torch.randn(copies, 2, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    with torch.no_grad():
        logits = model()((x[:, None] + noise).flatten(0, 1)).log_softmax(1).unflatten(0, (len(x), copies))
    return -(logits.logsumexp(1) - math.log(copies)).gather(1, label[:, None])[:, 0]


EVERY = torch.arange(COUNT)
PLAIN, SMOOTHED = SetAttack(THREAT, 20), SetAttack(THREAT, 20, SIGMA, 64)


@pytest.mark.parametrize("attack", [PLAIN, SMOOTHED])
def test_every_example_becomes_stranger_inside_the_threat_those_that_are_wrong_too(attack: SetAttack) -> None:
    x, label = examples()
    attacked = found(attack, EVERY)
    assert THREAT.permits(attacked, x).all()
    wrong = model()(x).argmax(1) != label
    assert 0 < wrong.sum() < COUNT
    rise = strangeness(attacked, attack.sigma) - strangeness(x, attack.sigma)
    assert (rise[wrong] > 0).double().mean() > 0.9
    assert (rise[~wrong] > 0).double().mean() > 0.9


def test_what_is_attacked_is_what_the_sets_are_made_of() -> None:
    of_model, of_noise = strangeness(found(PLAIN, EVERY), SIGMA), strangeness(found(SMOOTHED, EVERY), SIGMA)
    assert of_noise.mean() > of_model.mean()
    assert strangeness(found(PLAIN, EVERY)).mean() > strangeness(found(SMOOTHED, EVERY)).mean()


def test_of_a_linear_model_it_goes_away_from_the_plane_whatever_the_noise() -> None:
    linear = Classifier(nn.Linear(2, 2).double(), nn.Identity()).eval()
    x, label = examples()
    one, many = (SetAttack(THREAT, 20, SIGMA, m).on(0, EVERY, 1000)(linear, x, label, EVERY) for m in (1, 16))
    torch.testing.assert_close(one, many, atol=1e-9, rtol=0)
    weight = linear.backbone.weight.detach()
    away = torch.where(label[:, None] == 0, weight[1] - weight[0], weight[0] - weight[1])
    gone = ((many - x) * away / away.norm(dim=1, keepdim=True)).sum(1)
    assert gone.min() > 0.9 * THREAT.eps
    assert gone.max() <= THREAT.eps + 1e-9


@pytest.mark.parametrize("attack", [PLAIN, SMOOTHED])
def test_neither_the_batch_nor_the_pieces_change_a_point_and_the_seed_does(attack: SetAttack) -> None:
    whole = found(attack, EVERY)
    torch.testing.assert_close(found(attack, EVERY.flip(0)[:7]), whole.flip(0)[:7], atol=1e-12, rtol=0)
    torch.testing.assert_close(found(attack, EVERY, at_once=100), whole, atol=1e-12, rtol=0)
    assert not found(attack, EVERY, seed=1).equal(whole)


def test_a_pass_takes_as_many_copies_as_it_may() -> None:
    sizes = set[int]()
    handle = model().register_forward_pre_hook(lambda module, given: sizes.add(len(given[0])))
    try:
        found(SMOOTHED, EVERY, at_once=200)
        assert sizes == {3 * 64}
        found(SMOOTHED, EVERY[:2], at_once=10)
        assert sizes == {3 * 64, 64}
    finally:
        handle.remove()


def test_what_was_done_is_told() -> None:
    assert (PLAIN.name, SMOOTHED.name) == ("pgd-20", "smoothed-pgd-20")
    assert PLAIN.settings == {"eps_l2": 0.3, "steps": 20}
    assert SMOOTHED.settings == {"eps_l2": 0.3, "steps": 20, "attack_sigma": SIGMA, "attack_copies": 64}
    assert str(SetAttack(Threat("linf", 8 / 255), 5)) == "PGD of 5 steps on the cross-entropy, linf, eps = 8/255"

"""Networks that hide their gradients are flagged, and honest ones are not."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.data.dataset import Splits
from poise.data.sources.digits import Digits
from poise.evaluator import Subject
from poise.honesty.check import Check
from poise.honesty.checks import checks, honesty
from poise.honesty.sample import Sample
from poise.models.classifier import Classifier
from poise.models.mlp import mlp
from poise.models.small_bn_cnn import small_bn_cnn
from poise.models.small_cnn import small_cnn
from poise.predictions import predict

SMALL, MIDDLE, LARGE = (Threat("linf", eps) for eps in (8 / 255, 0.1, 0.2))
STEPS, EXAMPLES, EPOCHS = 20, 100, 5

Maker = Callable[..., nn.Module]

convolutions, normalised = partial(small_cnn, width=8), partial(small_bn_cnn, width=8)


class CrossMax(nn.Module):
    """The median of several networks' logits, less each network's greatest and then each class's greatest.

    Fort, Lakshminarayanan: Ensemble everything everywhere, 2024, arXiv 2408.05446, algorithm 1. Attacks on the mean of
    the same networks break it, direct ones hardly do.
    """

    def __init__(self, networks: list[nn.Module]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, x: Tensor) -> Tensor:
        logits = torch.stack([network(x) for network in self.networks], 1)
        logits = logits - logits.amax(2, keepdim=True)
        return (logits - logits.amax(1, keepdim=True)).median(1).values


class Rounded(nn.Module):
    """A network behind inputs of few levels: the gradient of rounding is zero."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network((4 * x).round() / 4)


class Noisy(nn.Module):
    """A network that sees its inputs through noise, in evaluation too."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x + 0.1 * torch.randn_like(x))


@cache
def digits() -> Splits:
    return Digits().load(0)


@cache
def trained(make: Maker, seed: int, threat: Threat | None = None) -> nn.Module:
    """A small network, trained for a second; against 3 steps where there is a threat."""
    train = digits().train
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = make(10, (1, 8, 8))
        optimizer = torch.optim.Adam(network.parameters(), 3e-3)
        for epoch in range(EPOCHS):
            for rows in torch.randperm(len(train)).split(64):
                x, y = train.x[rows], train.label[rows]
                x = x if threat is None else PGD(threat, 3)(network, x, y, seed=epoch, index=rows)
                optimizer.zero_grad()
                cross_entropy(network.train()(x), y).backward()
                optimizer.step()
    return network.eval()


def sample(network: nn.Module, threat: Threat) -> Sample:
    model = network if isinstance(network, Classifier) else Classifier(network, nn.Identity())
    subject = Subject(model, digits(), threat)
    index = torch.arange(EXAMPLES) * 3
    data, attack = digits().test.rows(index), PGD(threat, STEPS)
    attacked = predict(model, data, subject.ranks, lambda m, x, y, at: attack(m, x, y, index=index[at]))
    return Sample(subject, data, index, predict(model, data, subject.ranks), attacked, STEPS, 1)


def flagged(network: nn.Module, threat: Threat) -> dict[str, Check]:
    return {check.name: check for check in checks(sample(network, threat)) if check.flagged}


HONEST = [
    *((mlp, seed, None, threat) for seed, threat in enumerate((SMALL, MIDDLE, LARGE, MIDDLE, LARGE))),
    *((mlp, seed, threat, threat) for seed, threat in enumerate((SMALL, MIDDLE, LARGE))),
    (mlp, 0, None, Threat("l2", 0.5)),
    (convolutions, 0, None, MIDDLE),
    (convolutions, 1, MIDDLE, MIDDLE),
    (normalised, 0, None, SMALL),
    (normalised, 1, MIDDLE, MIDDLE),
]


@pytest.mark.parametrize(("make", "seed", "against", "threat"), HONEST)
def test_honest_networks_are_not_flagged(make: Maker, seed: int, against: Threat | None, threat: Threat) -> None:
    assert not flagged(trained(make, seed, against), threat)


def test_rounded_inputs_are_flagged() -> None:
    found = flagged(Rounded(trained(mlp, 0)), LARGE)
    assert found.keys() >= {"zero_gradients", "huge_radius", "transfer", "square"}
    assert found["zero_gradients"].measured == 1


def test_crossmax_is_flagged() -> None:
    ensemble = CrossMax([trained(mlp, seed) for seed in range(5)])
    assert flagged(ensemble, LARGE).keys() >= {"transfer", "square"}


def test_outputs_that_are_random_or_no_logits_are_flagged() -> None:
    assert "random_outputs" in flagged(Noisy(trained(mlp, 0)), SMALL)
    assert "probabilities" in flagged(nn.Sequential(trained(mlp, 0), nn.Softmax(1)), SMALL)


def test_what_is_flagged_is_a_doubt_and_marked_in_the_table() -> None:
    found = honesty(sample(Rounded(trained(mlp, 0)), LARGE), "test", "pgd-20")
    assert found.metrics["test/honesty/pgd-20/zero_gradients"] == 1
    assert found.metrics["test/honesty/pgd-20/flagged"] == len(found.doubts)
    assert any(
        doubt.startswith("pgd-20 on test is in doubt by zero_gradients (share of gradients") for doubt in found.doubts
    )
    rows = {row.name.partition(":")[0]: row.cells for row in found.tables["test-pgd-20-honesty"].rows}
    assert (rows["zero_gradients"][0], rows["zero_gradients"][-1]) == ("100.0 %", "FLAGGED")
    assert rows["probabilities"][-1] == "passed"


def test_without_other_inputs_no_substitute_is_trained_and_that_is_said() -> None:
    one = sample(trained(mlp, 0), SMALL)
    splits = digits()
    alone = replace(splits, train=splits.train.none(), val=splits.val.none(), calibration=splits.calibration.none())
    found = honesty(replace(one, subject=replace(one.subject, splits=alone)), "test", "pgd-20")
    assert "test/honesty/pgd-20/transfer" not in found.metrics
    rows = {row.name.partition(":")[0]: row.cells for row in found.tables["test-pgd-20-honesty"].rows}
    assert rows["transfer"][-1] == "not run: there are no inputs beside test to train a substitute on"

"""Class-balanced draws of the training examples."""

import pytest
import torch

from poise import Task
from poise.data.order import epoch_order
from poise_recipes import ClassBalancedSampling

COUNTS = torch.tensor([900, 90, 10])
TASK = Task(3, num_train=1000, class_counts=COUNTS, label=torch.arange(3).repeat_interleave(COUNTS))


def shares_drawn(beta: float, epochs: int = 20) -> torch.Tensor:
    recipe = ClassBalancedSampling(beta)
    drawn = [epoch_order(1000, 0, epoch, recipe.sample_weights(TASK, epoch)) for epoch in range(epochs)]
    return torch.bincount(TASK.label[torch.cat(drawn)], minlength=3) / (1000 * epochs)


@pytest.mark.parametrize("beta", [0.0, 0.99, 1.0])
def test_classes_are_drawn_as_their_size_and_weight_say(beta: float) -> None:
    effective = torch.tensor([sum(beta**i for i in range(int(n))) for n in COUNTS])
    expected = COUNTS / effective
    # a share of 20,000 draws has a standard deviation of at most 0.0036
    assert (shares_drawn(beta) - expected / expected.sum()).abs().max() < 0.015


def test_all_classes_are_drawn_equally_often_in_the_limit() -> None:
    weights = ClassBalancedSampling(1.0).sample_weights(TASK, 0)
    mass = torch.zeros(3, dtype=torch.float64).index_add_(0, TASK.label, weights)
    torch.testing.assert_close(mass, torch.ones(3, dtype=torch.float64))

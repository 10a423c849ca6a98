"""Whether a model is right more often than by chance."""

from itertools import permutations

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from poise.batch import Predictions
from poise.chance import no_better_than_chance


def seen(said: Tensor, label: Tensor, classes: int) -> Predictions:
    return Predictions(one_hot(said, classes).float(), None, label, None, torch.arange(len(label)))


def suspected(said: Tensor, label: Tensor, classes: int) -> bool:
    return bool(no_better_than_chance(seen(said, label, classes), "val"))


def some_right(share: float, size: int, classes: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Guesses and labels, and of the guesses a share that was told."""
    said, label = (torch.randint(classes, (size,), generator=generator) for _ in range(2))
    return said.where(torch.rand(size, generator=generator) >= share, label), label


def test_chance_is_what_dealing_out_the_predictions_comes_to() -> None:
    said, label = torch.tensor([0, 0, 0, 1, 1, 2, 2]), torch.tensor([0, 1, 1, 0, 1, 2, 0])
    right = torch.tensor([float((said[list(order)] == label).sum()) for order in permutations(range(7))]) / 7
    told = no_better_than_chance(seen(said, label.roll(3), 3), "val")
    assert told == ""  # so few that none could be told from chance
    said, label = said.repeat(20), label.roll(3).repeat(20)
    told = no_better_than_chance(seen(said, label, 3), "val")
    assert f"would be right on {100 * right.mean():.2f} ±" in told
    dealt = torch.stack([said[torch.randperm(140, generator=torch.Generator().manual_seed(i))] for i in range(4000)])
    error = float((dealt == label).double().mean(1).std())
    assert float(told.removesuffix(" %").rpartition("± ")[2]) == pytest.approx(100 * error, rel=0.05)


@pytest.mark.parametrize("classes", [2, 10])
@pytest.mark.parametrize("size", [60, 180, 5000])
def test_one_that_always_says_the_same_is_suspected_whatever_it_says(classes: int, size: int) -> None:
    label = torch.arange(size) % classes
    label[: size // 2] = 0
    for always in (0, classes - 1):
        assert suspected(torch.full((size,), always), label, classes)


def test_guesses_are_suspected_of_many_examples_nearly_always() -> None:
    generator = torch.Generator().manual_seed(0)
    found = [suspected(*some_right(0.0, size, 10, generator), 10) for size in (1000, 5000) for _ in range(200)]
    assert sum(found) >= 399


def test_a_hard_problem_of_a_hundred_classes_of_which_a_bit_was_learnt_is_not() -> None:
    generator = torch.Generator().manual_seed(0)
    assert not any(suspected(*some_right(0.02, 5000, 100, generator), 100) for _ in range(200))  # 3 % are right


@pytest.mark.parametrize(("classes", "share"), [(2, 0.6), (10, 0.3)])
def test_of_few_examples_none_is_suspected_that_learnt_something(classes: int, share: float) -> None:
    generator = torch.Generator().manual_seed(0)
    for size in (20, 60, 180):
        assert sum(suspected(*some_right(share, size, classes, generator), classes) for _ in range(200)) <= 2


def test_one_that_finds_a_rare_class_is_not_though_always_saying_the_other_is_right_more_often() -> None:
    label = (torch.arange(2000) % 50 == 0).long()  # 2 % of them
    said = label.clone()
    said[1::20] = 1  # and a hundred false alarms
    assert (said == label).double().mean() < (label == 0).double().mean()
    assert not suspected(said, label, 2)


def test_nothing_is_said_where_no_error_would_be_no_sign() -> None:
    assert not suspected(torch.zeros(50).long(), torch.zeros(50).long(), 3)
    assert not suspected(torch.tensor([0, 1]), torch.tensor([1, 0]), 2)

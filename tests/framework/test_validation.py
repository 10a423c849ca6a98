"""What is measured after each epoch, against the same by hand."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from poise.attacks.pgd import PGD
from poise.attacks.threat import Threat
from poise.distributed import Ranks
from poise.recipe import Recipe
from poise.selection import selections
from poise.stack import RecipeStack
from poise.validation import Validation

THREAT = Threat("linf", 0.1, -1.0, 1.0)


class Halves(Recipe):
    """Ships half of every weight."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = [model]

    def eval_weights(self) -> dict[str, Tensor]:
        return {name: value / 2 for name, value in self.model[0].state_dict().items()}


def setting() -> tuple[nn.Linear, Tensor, Tensor]:
    """A model that is right about four examples in five, some of them near its boundaries."""
    torch.manual_seed(0)
    model, x = nn.Linear(5, 3, bias=False).eval(), 2 * torch.rand(40, 5) - 1
    return model, x, (model(x).argmax(1) + (torch.arange(40) % 5 == 0)) % 3


def worst(right: Tensor, part: Tensor) -> float:
    return min(float(right[part == number].double().mean()) for number in part.unique())


def test_metrics_are_of_the_whole_split_and_begin_anew() -> None:
    model, x, label = setting()
    group = torch.arange(40) % 7 + 1  # none of which has 0
    validation = Validation(THREAT, attacked=True, seed=3, num_classes=4, num_groups=9)
    x_adv = PGD(THREAT, steps=10).in_lockstep(model, x, label, seed=3)
    right, robust = model(x).argmax(1) == label, model(x_adv).argmax(1) == label
    expected = {
        "val/nll": float(cross_entropy(model(x), label).detach()),
        "val/worst_class_accuracy": worst(right, label),
        "val/worst_group_accuracy": worst(right, group),
        "val/accuracy": float(right.double().mean()),
        "val/worst_class_robust_accuracy": worst(robust, label),
        "val/worst_group_robust_accuracy": worst(robust, group),
        "val/robust_accuracy": float(robust.double().mean()),
    }
    assert len(set(expected.values())) == len(expected)
    for _ in range(2):
        for rows in (torch.arange(25), torch.arange(25, 40)):
            validation.look(model, x[rows], label[rows], rows, group[rows])
        found = {name: float(value) for name, value in validation.results().items()}
        assert found == pytest.approx(expected)
        assert list(found) == list(expected)
    assert not validation.state_dict()


def test_without_an_attack_nothing_is_attacked_and_without_groups_none_is_worst() -> None:
    model, x, label = setting()
    validation = Validation(THREAT, attacked=False, seed=0, num_classes=3, num_groups=2)
    passes: list[int] = []
    model.register_forward_hook(lambda *_: passes.append(1))
    validation.look(model, x, label, None)
    assert list(validation.results()) == ["val/nll", "val/worst_class_accuracy", "val/accuracy"]
    assert len(passes) == 1


@pytest.mark.parametrize("attacked", [False, True])
@pytest.mark.parametrize("group", [None, torch.arange(40) % 2])
def test_what_may_choose_an_epoch_is_what_is_measured(attacked: bool, group: Tensor | None) -> None:
    model, x, label = setting()
    validation = Validation(THREAT, attacked, seed=0, num_classes=3, num_groups=2)
    validation.look(model, x, label, None, group)
    choices = selections(attacked, group is not None)
    assert {f"val/{name}" for name in choices} == set(validation.results())
    assert choices[0] == ("robust_accuracy" if attacked else "accuracy")


def test_what_would_be_shipped_is_measured_and_what_is_trained_comes_back() -> None:
    model, _, _ = setting()
    validation = Validation(THREAT, attacked=False, seed=0, num_classes=3)
    for stack, factor in ((RecipeStack([Halves(model)]), 0.5), (RecipeStack(), 1.0)):
        own = model.weight.detach().clone()
        validation.begin(model, stack, Ranks())
        assert torch.equal(model.weight, factor * own)
        validation.end(model)
        assert torch.equal(model.weight, own)

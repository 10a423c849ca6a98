"""Batch statistics belong to a rank; their mean is what is validated and shipped."""

from typing import Any

import torch
from torch import Tensor, nn

from poise.distributed import Ranks, current_ranks
from poise.recipe import Recipe
from poise.shipping import shipped_state, statistics
from poise.stack import RecipeStack
from ranks import Pair


class Halves(Recipe):
    """Ships half of every weight."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = [model]

    def eval_weights(self) -> dict[str, Tensor]:
        return {n: v / 2 if v.is_floating_point() else v for n, v in self.model[0].state_dict().items()}


def network(rank: int) -> nn.Module:
    """The same weights on both ranks, each with statistics of its own."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2), nn.BatchNorm1d(2, affine=False))
    torch.manual_seed(rank + 1)
    model(torch.rand(8, 3))
    return model


def shipped(halved: bool) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """This rank's own state and what is shipped."""
    model = network(current_ranks().rank)
    stack = RecipeStack([Halves(model)] if halved else [])
    state = shipped_state(model, stack, current_ranks())
    assert state is not None
    return model.state_dict(), state


def test_statistics_are_named_as_in_the_state() -> None:
    model = network(0)
    found, state = statistics(model), model.state_dict()
    assert sorted(found) == sorted(name for name in state if "running" in name or "tracked" in name)
    assert list(statistics(nn.BatchNorm1d(2))) == ["running_mean", "running_var", "num_batches_tracked"]
    assert statistics(nn.BatchNorm1d(2, track_running_stats=False)) == {}
    assert statistics(nn.Linear(2, 2)) == {}


def test_nothing_has_to_be_replaced_on_one_rank() -> None:
    assert shipped_state(network(0), RecipeStack(), Ranks()) is None


def test_a_recipes_weights_are_shipped() -> None:
    model = network(0)
    state = shipped_state(model, RecipeStack([Halves(model)]), Ranks())
    assert state is not None
    assert torch.equal(state["0.weight"], model.state_dict()["0.weight"] / 2)


def check_mean(both: list[Any], factor: float) -> None:
    (own, first), (other, second) = both
    assert all(torch.equal(first[name], second[name]) for name in first if "tracked" not in name)
    for name in ("1.running_mean", "3.running_var"):
        assert not torch.equal(own[name], other[name])
        torch.testing.assert_close(first[name], factor * (own[name] + other[name]) / 2, rtol=0, atol=1e-7)


def test_statistics_are_averaged_over_ranks(pair: Pair) -> None:
    both = pair.run(shipped, False)
    check_mean(both, 1.0)
    own, state = both[0]
    assert set(state) == {name for name in own if "running" in name or "tracked" in name}


def test_statistics_of_a_recipes_weights_are_averaged_too(pair: Pair) -> None:
    both = pair.run(shipped, True)
    check_mean(both, 0.5)
    own, state = both[0]
    torch.testing.assert_close(state["0.weight"], 0.5 * own["0.weight"], rtol=0, atol=0)

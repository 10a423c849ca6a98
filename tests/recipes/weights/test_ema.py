"""The average of the weights: its formula, what it averages, and that it ships."""

import copy

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from poise import Batch, RecipeStack, Step, Task
from poise.distributed import Ranks
from poise.models.classifier import Classifier
from poise.shipping import shipped_state
from poise_recipes import EMA
from poise_recipes.weights.ema import decay_at, follow

BATCH = Batch.of(torch.rand(4, 5), torch.arange(4) % 3, num_classes=3)


def setting(decay: float = 0.9, warmup: float = 9.0) -> tuple[Classifier, RecipeStack]:
    torch.manual_seed(0)
    model = Classifier(nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), nn.Linear(4, 3)).double()
    stack = RecipeStack([EMA(decay, warmup)])
    stack.setup(Task(3), model)
    return model, stack


def shake(model: nn.Module, seed: int) -> None:
    """Another state: every weight and statistic moved, one more batch counted."""
    generator = torch.Generator().manual_seed(seed)
    for value in model.state_dict().values():
        if value.is_floating_point():
            value.add_(torch.rand(value.shape, generator=generator, dtype=value.dtype))
        else:
            value.add_(1)


def test_it_follows_the_weights_and_statistics_by_the_formula() -> None:
    model, stack = setting(decay=0.8)
    expected = {name: value.clone() for name, value in model.state_dict().items()}
    for number in range(40):
        shake(model, number)
        stack.on_step_end(BATCH, Step(model, stack, global_step=number))
        b = min(0.8, (1 + number) / (10 + number))
        for name, value in model.state_dict().items():
            expected[name] = b * expected[name] + (1 - b) * value if value.is_floating_point() else value.clone()
    assert (1 + number) / (10 + number) > 0.8, "the warm-up is over"
    averages = stack.eval_weights()
    assert averages is not None
    assert averages.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(averages[name], value, rtol=0, atol=1e-12)


@given(decay=st.floats(0, 0.999), warmup=st.floats(0, 100), steps=st.integers(1, 30), start=st.integers(0, 100))
@settings(max_examples=40, deadline=None)
def test_the_average_stays_among_the_weights_seen(decay: float, warmup: float, steps: int, start: int) -> None:
    average, seen = torch.tensor([0.5], dtype=torch.float64), [0.5]
    for number in range(start, start + steps):
        seen.append(float(number % 7))
        follow({"w": average}, {"w": torch.tensor(seen[-1:], dtype=torch.float64)}, decay_at(number, decay, warmup))
    assert min(seen) - 1e-12 <= average.item() <= max(seen) + 1e-12


def test_without_warm_up_the_start_fades_at_the_rate_of_the_decay() -> None:
    average = torch.ones(1, dtype=torch.float64)
    for number in range(50):
        follow({"w": average}, {"w": torch.zeros(1, dtype=torch.float64)}, decay_at(number, 0.95, warmup=0.0))
    assert abs(average.item() - 0.95**50) < 1e-12


def test_the_warm_up_forgets_the_start() -> None:
    shares = dict.fromkeys((0.0, 9.0), 1.0)
    for warmup in shares:
        for number in range(100):
            shares[warmup] *= decay_at(number, 0.995, warmup)
    assert shares[0.0] > 0.6
    assert shares[9.0] < 1e-9


def test_averages_of_batch_statistics_are_each_ranks_own_and_come_back() -> None:
    model, stack = setting()
    shake(model, 0)
    stack.on_step_end(BATCH, Step(model, stack))
    own = stack.rank_state()
    statistics = ("running_mean", "running_var", "num_batches_tracked")
    assert set(own) == {f"ema.backbone/1/{name}" for name in statistics}
    _, resumed = setting()
    resumed.load_rank_state(own)
    resumed.on_step_end(BATCH, Step(model, resumed, global_step=1))
    stack.on_step_end(BATCH, Step(model, stack, global_step=1))
    assert all(torch.equal(value, stack.rank_state()[name]) for name, value in resumed.rank_state().items())


def test_the_average_is_what_ships_and_training_goes_on_with_the_weights() -> None:
    model, stack = setting()
    shake(model, 0)
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    stack.on_step_end(BATCH, Step(model, stack))
    shipped = shipped_state(model, stack, Ranks())
    assert shipped is not None
    twin = copy.deepcopy(model)
    twin.load_state_dict(shipped)
    assert not torch.equal(twin.head.weight, model.head.weight)
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


def test_a_model_without_counts_is_averaged_too() -> None:
    average, weight = torch.zeros(2), torch.ones(2)
    follow({"w": average}, {"w": weight}, decay=0.75)
    assert torch.equal(average, torch.full((2,), 0.25))

"""Free adversarial training against the algorithm written out."""

import pytest
import torch
from torch import Tensor, nn

from poise import Batch, RecipeStack, Refusal, Step, Threat
from poise.config import parse
from poise_recipes import PGD, PGDAT, CutMix, FreeAT

EPS, LR, REPLAYS = 0.1, 0.2, 3


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 3)).double()


def batches() -> list[Batch]:
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(2, 6, 5, dtype=torch.float64, generator=generator)
    return [Batch.of(rows, torch.arange(6) % 3, num_classes=3, index=torch.arange(6)) for rows in x]


def prepared(recipe: FreeAT) -> RecipeStack:
    stack = RecipeStack([recipe])
    recipe.register_buffer("delta", torch.zeros(0), persistent=False)
    return stack


def trained(stack: RecipeStack, model: nn.Module, threat: Threat) -> list[Tensor]:
    optimizer = torch.optim.SGD(model.parameters(), LR)
    for b in batches():
        for _ in range(stack.replays):
            step = Step(model, stack, threat=threat)
            attacked = stack.attack(b, step)
            optimizer.zero_grad()
            stack.loss(attacked, step)().backward()
            optimizer.step()
            stack.on_step_end(attacked, step)
    return [p.detach() for p in model.parameters()]


def uphill(gradient: Tensor, norm: str) -> Tensor:
    """Directions of length one; in l1 along the one largest of five values."""
    if norm == "linf":
        return gradient.sign()
    if norm == "l2":
        return gradient / gradient.norm(dim=1, keepdim=True)
    size = gradient.abs()
    return gradient.sign() * (size == size.amax(1, keepdim=True))


def shortened(delta: Tensor, norm: str) -> Tensor:
    """The nearest changes of a length of EPS at most."""
    if norm == "linf":
        return delta.clamp(-EPS, EPS)
    if norm == "l2":
        return delta * (EPS / delta.norm(dim=1, keepdim=True)).clamp(max=1)
    low, high = torch.zeros(len(delta), 1, dtype=delta.dtype), delta.abs().amax(1, keepdim=True)
    for _ in range(100):  # what has to be taken from each value, by halving
        middle = (low + high) / 2
        long = (delta.abs() - middle).clamp(min=0).sum(1, keepdim=True) > EPS
        low, high = middle.where(long, low), high.where(long, middle)
    return delta.sign() * (delta.abs() - high * (delta.abs().sum(1, keepdim=True) > EPS)).clamp(min=0)


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
@pytest.mark.parametrize("size", [None, 0.03])
def test_weights_are_those_of_the_algorithm(norm: str, size: float | None) -> None:
    found = trained(prepared(FreeAT(REPLAYS, size)), network(), Threat(norm, EPS))

    model, delta = network(), torch.zeros(6, 5, dtype=torch.float64)
    for b in batches():
        for _ in range(REPLAYS):
            x_adv = (b.x + delta).clamp(0, 1).requires_grad_()
            model.zero_grad()
            nn.functional.cross_entropy(model(x_adv), b.label).backward()
            delta = shortened(delta + (size or EPS) * uphill(x_adv.grad, norm), norm)
            with torch.no_grad():
                for p in model.parameters():
                    p -= LR * p.grad
    for one, other in zip(found, model.parameters(), strict=True):
        torch.testing.assert_close(one, other.detach(), rtol=0, atol=1e-6)


def test_changes_outlive_the_batch_and_stay_in_the_ball() -> None:
    recipe = FreeAT(REPLAYS)
    threat = Threat("linf", EPS)
    trained(prepared(recipe), network(), threat)
    assert recipe.delta.abs().max() == EPS
    step = Step(network(), RecipeStack([recipe]), threat=threat)
    attacked = recipe.attack(batches()[0], step).attacked
    assert not torch.equal(attacked, batches()[0].x)
    assert 0 <= attacked.min() <= attacked.max() <= 1
    assert attacked.is_leaf


def test_an_enlarged_batch_has_a_slot_for_each_row() -> None:
    recipe, b = FreeAT(), batches()[0]
    stack = prepared(recipe)
    step = Step(network(), stack, threat=Threat("linf", EPS))
    large = stack.attack(b.interleave(b), step)
    stack.loss(large, step)().backward()
    stack.on_step_end(large, step)
    assert recipe.delta.shape == (12, 5)


def test_alone_it_trains_on_what_it_finds_and_costs_a_plain_step() -> None:
    stack = RecipeStack([FreeAT()])
    assert set(stack.names) == {"free_at", "pgd_at"}
    assert stack.replays == 8
    assert stack.passes() == RecipeStack().passes()
    assert list(parse(["recipe=free_at,cutmix"]).recipe) == ["free_at", "pgd_at", "cutmix"]
    assert RecipeStack([FreeAT(), PGDAT(), CutMix()]).replays == 8


def test_another_attack_is_refused_and_so_is_accumulation() -> None:
    with pytest.raises(Refusal, match="both decide the attack of a step"):
        RecipeStack([FreeAT(), PGD(), PGDAT()])
    with pytest.raises(Refusal, match="whole_batch"):
        RecipeStack([FreeAT()]).require({"clean"})


def test_a_loss_that_does_not_see_the_attack_is_no_free_lunch() -> None:
    recipe, b = FreeAT(), batches()[0]
    prepared(recipe)
    step = Step(network(), threat=Threat("linf", EPS))
    with pytest.raises(ValueError, match="did not depend on x_adv"):
        recipe.on_step_end(recipe.attack(b, step), step)

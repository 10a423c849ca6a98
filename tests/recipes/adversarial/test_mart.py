"""MART against its formula written out again."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from attacked import CLASSES, assert_same, batch, network
from poise import Batch, RecipeStack, Step, Threat
from poise_recipes import MART, LabelSmoothing
from poise_recipes.adversarial.mart import margin_loss


def of_label(model: nn.Module, x: Tensor, x_adv: Tensor, label: int, beta: float) -> Tensor:
    """The loss of one example with a hard label, from probabilities."""
    p, q = (torch.exp(model(z)) / torch.exp(model(z)).sum() for z in (x, x_adv))
    rival = max((float(q[k].detach()), k) for k in range(CLASSES) if k != label)[1]
    boosted = -torch.log(q[label]) - torch.log(1.0001 - q[rival])
    return boosted + beta * (p * (torch.log(p) - torch.log(q))).sum() * (1 - p[label])


def by_hand(model: nn.Module, b: Batch, beta: float) -> Tensor:
    """Soft targets as mixtures of hard labels."""
    assert b.x_adv is not None
    rows = [
        sum(t[k] * of_label(model, x, x_adv, k, beta) for k in range(CLASSES))
        for x, x_adv, t in zip(b.x, b.x_adv, b.target, strict=True)
    ]
    return torch.stack(rows).mean()  # type: ignore[arg-type]


@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("beta", [0.0, 5.0])
def test_loss_and_gradient_are_those_of_the_formula(beta: float, soft: bool) -> None:
    model, b = network(), batch(soft=soft)
    stack = RecipeStack([MART(beta)])
    assert_same(model, stack.loss(b, Step(model, stack))(), by_hand(model, b, beta))


def test_what_is_certainly_right_has_no_share_in_the_divergence() -> None:
    model, b = network(), batch()
    with torch.no_grad():
        model[2].weight.zero_()
        model[2].bias.copy_(torch.tensor([40.0, 0, 0, 0]))
    terms = RecipeStack([MART()]).objective(b.replace(x_adv=1 - b.x), Step(model)).terms
    assert terms["kl"].abs().max() < 1e-12
    wrong = b.label != 0
    assert (terms["label_loss"][wrong] > 40 + math.log(1e4) - 1).all()
    assert (terms["label_loss"][~wrong].abs() < 1e-3).all()


@pytest.mark.parametrize(("norm", "eps"), [("linf", 0.1), ("l2", 0.2), ("l1", 0.4)])
def test_the_attack_climbs_the_cross_entropy_from_near_the_input(norm: str, eps: float) -> None:
    model, b = network(), batch().replace(x_adv=None)
    stack = RecipeStack([MART()])
    step = Step(model, stack, threat=Threat(norm, eps))
    attacked = stack.attack(b, step)
    assert stack.names == ("mart", "pgd")
    assert stack.members["pgd"].start == "normal"
    losses = [nn.functional.cross_entropy(model(x), b.label, reduction="none") for x in (b.x, attacked.attacked)]
    assert (losses[1] > losses[0]).all()
    assert (step.threat.distance(attacked.attacked, b.x) <= eps + 1e-9).all()


def test_the_label_terms_see_smoothed_targets_and_the_weight_does_not() -> None:
    model, b = network(), batch()
    plain, smooth = RecipeStack([MART()]), RecipeStack([MART(), LabelSmoothing(0.2)])
    smoothed = 0.8 * b.target + 0.2 / CLASSES
    terms = smooth.objective(b, Step(model, smooth)).terms
    torch.testing.assert_close(terms["kl"], plain.objective(b, Step(model, plain)).terms["kl"])
    soft = plain.objective(b.replace(target=smoothed), Step(model, plain)).terms
    torch.testing.assert_close(terms["label_loss"], soft["label_loss"])


@given(
    st.lists(st.lists(st.floats(-200, 200), min_size=CLASSES, max_size=CLASSES), min_size=1, max_size=4),
    st.permutations(range(CLASSES)),
    st.integers(0, CLASSES - 1),
)
@settings(max_examples=60, deadline=None)
def test_the_margin_is_bounded_and_knows_no_names_of_classes(
    rows: list[list[float]], order: list[int], label: int
) -> None:
    logits = torch.tensor(rows, dtype=torch.float32)
    target = torch.zeros_like(logits)
    target[:, label] = 1
    loss = margin_loss(logits, target)
    assert (loss >= -1.1e-4).all()
    assert (loss <= math.log(1e4) + 2e-3).all()
    torch.testing.assert_close(margin_loss(logits[:, order], target[:, order]), loss)

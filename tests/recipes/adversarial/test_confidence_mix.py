"""What a mixture is taught: its loss, what attacks it, and that it learns to tell attacked inputs."""

import pytest
import torch
import torch.nn.functional as F

from contracts import kit
from poise import Batch, RecipeStack, Step
from poise.attacks.threat import Threat
from poise.models.mixture import mixture
from poise.module import TrainingModule
from poise.rules import Refusal
from poise_recipes import PGD, ConfidenceMix
from poise_recipes.adversarial.confidence_mix import trust_loss

CLASSES = kit.CLASSES


def batch(rows: int = 12) -> Batch:
    keyed = torch.Generator().manual_seed(1)
    x = torch.rand(rows, 1, 8, 8, generator=keyed)
    made = Batch.of(x, torch.randint(CLASSES, (rows,), generator=keyed), CLASSES)
    return made.replace(x_adv=(x + 0.1 * torch.rand(x.shape, generator=keyed)).clamp(0, 1))


def test_the_loss_is_that_of_clean_and_attacked_inputs() -> None:
    model, seen = kit.two_models().double(), batch()
    recipe = ConfidenceMix(clean=2.0, bce=1.5, ce=0.5, product=0.3)
    stack = RecipeStack([PGD(), recipe])
    seen = seen.replace(x=seen.x.double(), x_adv=seen.attacked.double(), target=seen.target.double())
    outcome = recipe.objective(seen, Step(model, stack))
    expected = torch.zeros(len(seen), dtype=torch.float64)
    for x, weight, sign in ((seen.x, 2.0, 0.0), (seen.attacked, 1.0, 1.0)):
        gamma = model.run(x, keep=True).layers["mixing"][:, 0]
        alpha = gamma.sigmoid()[:, None]
        p, q = (part(x).softmax(1) for part in (model.backbone.standard, model.backbone.robust))
        ce = -(((1 - alpha) * p + alpha * q)[torch.arange(len(x)), seen.label]).log()
        bce = F.binary_cross_entropy_with_logits(gamma, torch.full_like(gamma, sign), reduction="none")
        expected += weight * (1.5 * bce + 0.5 * ce + 0.3 * bce * ce)
    torch.testing.assert_close(outcome.loss, expected, rtol=1e-6, atol=1e-9)


def test_the_attack_turns_on_the_network_as_far_as_it_may() -> None:
    model, seen = kit.two_models().eval(), batch()
    plain, deceiving = (
        ConfidenceMix(deceit=share).inner(seen, Step(model, block=4).bound("confidence_mix")) for share in (0.0, 1.0)
    )
    logits, gamma = model(seen.x), model.run(seen.x, keep=True).layers["mixing"]
    ce = F.cross_entropy(logits, seen.label, reduction="none")
    torch.testing.assert_close(plain(seen.x), ce)
    share = (deceiving(seen.x) - ce) / (trust_loss(gamma, attacked=True) - ce)
    assert ((share >= 0) & (share < 1)).all()
    assert len(share.unique()) > 1
    x = seen.x.clone().requires_grad_()
    deceived = torch.autograd.grad(trust_loss(model.run(x, keep=True).layers["mixing"], attacked=True).sum(), x)[0]
    assert deceived.abs().max() > 0, "the attack sees through the network into the members"


def test_a_mixture_learns_to_tell_attacked_inputs_and_only_its_network_is_trained() -> None:
    model, seen = kit.two_models(), batch()
    seen = seen.replace(x_adv=seen.x / 4)  # darker: an attack that can be told
    recipe, step = ConfidenceMix(), Step(model, RecipeStack([PGD(), ConfidenceMix()]))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(100):
        optimizer.zero_grad()
        outcome = recipe.objective(seen, step)
        outcome.loss.mean().backward()
        optimizer.step()
    assert (outcome.terms["share_attacked"] > 0.9).all()
    assert (outcome.terms["share_clean"] < 0.1).all()
    moved = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert moved == {f"backbone.mixing.{number}.{kind}" for number in (1, 3) for kind in ("weight", "bias")}


def test_a_model_without_a_network_to_teach_is_refused() -> None:
    described = kit.two_models().standalone
    constant = mixture(CLASSES, (1, 8, 8), 0.9, **described)
    made = TrainingModule(constant, [ConfidenceMix()], splits=kit.splits(), threat=Threat("linf", 0.05))
    with pytest.raises(
        Refusal, match=r"needs `layer:mixing` .*: use a model with a layer .mixing., such as model=mixture"
    ):
        made.prepare(1)

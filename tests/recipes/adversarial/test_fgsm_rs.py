"""The one-step attack of training, against the formula."""

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from poise import Batch, RecipeStack, Refusal, Step, Threat, UserError
from poise.config import parse
from poise_recipes import FGSMRS, PGD, PGDAT, Trades
from ranks import Pair
from small_runs import small_fit

EPS = 0.1


def setting(seed: int = 0) -> tuple[nn.Module, Batch]:
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 3)).double()
    x = torch.rand(8, 5, dtype=torch.float64)
    return model, Batch.of(x, torch.arange(8) % 3, num_classes=3)


@pytest.mark.parametrize("mode", ["eval", "train"])
@pytest.mark.parametrize("alpha", [None, 0.03])
def test_one_step_from_a_uniform_start_is_the_published_one(mode: str, alpha: float | None) -> None:
    model, b = setting()
    step = Step(model, threat=Threat("linf", EPS), member="fgsm_rs")
    attacked = FGSMRS(alpha, mode).attack(b, step)

    delta = EPS * (2 * step.uniform(b, b.x, "start") - 1)
    delta = torch.max(torch.min(delta, 1 - b.x), 0 - b.x).requires_grad_()
    model.train(mode == "train")
    nn.functional.cross_entropy(model(b.x + delta), b.label).backward()
    delta = (delta + (alpha or 1.25 * EPS) * delta.grad.sign()).detach().clamp(-EPS, EPS)
    delta = torch.max(torch.min(delta, 1 - b.x), 0 - b.x)
    torch.testing.assert_close(attacked.x_adv, b.x + delta, rtol=0, atol=1e-6)


@given(
    norm=st.sampled_from(["linf", "l2", "l1"]),
    eps=st.floats(1e-3, 0.5),
    step_size=st.one_of(st.none(), st.floats(1e-3, 2)),
    seed=st.integers(0, 100),
)
@settings(max_examples=40, deadline=None)
def test_attacked_inputs_stay_in_the_ball_and_the_range(
    norm: str, eps: float, step_size: float | None, seed: int
) -> None:
    model, b = setting(seed)
    threat = Threat(norm, eps)
    attacked = FGSMRS(step_size).attack(b, Step(model, threat=threat, seed=seed))
    assert attacked.x_adv.min() >= 0
    assert attacked.x_adv.max() <= 1
    assert (threat.distance(attacked.x_adv, b.x) <= eps * (1 + 1e-9)).all()


@pytest.mark.parametrize("norm", ["linf", "l2", "l1"])
def test_it_is_pgd_with_one_step_of_that_size(norm: str) -> None:
    model, b = setting()
    step = Step(model, threat=Threat(norm, EPS))
    one_step = PGD(steps=1, step_size=1.25 * EPS).attack(b, step)
    assert torch.equal(FGSMRS().attack(b, step).x_adv, one_step.x_adv)


def test_alone_it_trains_on_what_it_finds() -> None:
    model, b = setting()
    alone, named = RecipeStack([FGSMRS()]), RecipeStack([PGDAT(), FGSMRS()])
    step = Step(model, alone, threat=Threat("linf", EPS))
    attacked = alone.attack(b, step)
    expected = nn.functional.cross_entropy(model(attacked.x_adv), b.label)
    torch.testing.assert_close(alone.loss(attacked, step)(), expected)
    assert set(alone.names) == set(named.names) == {"fgsm_rs", "pgd_at"}
    assert list(parse(["recipe=fgsm_rs"]).recipe) == ["fgsm_rs", "pgd_at"]


def test_under_trades_it_attacks_the_divergence() -> None:
    model, b = setting()
    stack = RecipeStack([FGSMRS(), Trades()])
    assert stack.names == ("fgsm_rs", "trades")
    step = Step(model, stack, threat=Threat("linf", EPS))
    attacked = stack.attack(b, step)
    start = step.threat.start(b.x, 2 * step.bound("fgsm_rs").uniform(b, b.x, "start") - 1)
    divergence = stack.inner(b, step.replace(model=model.eval()))
    assert divergence(attacked.x_adv).sum() > divergence(start).sum() > 0


def test_two_attacks_are_refused() -> None:
    with pytest.raises(Refusal, match="fgsm_rs and pgd both decide the attack of a step: keep one of them"):
        RecipeStack([FGSMRS(), PGD(), PGDAT()])


def refused(run_dir: str) -> str:
    """What ends a run under ZeRO-3 that is to go back to the weights of an epoch before."""
    with pytest.raises(UserError) as raised:
        small_fit(
            run_dir,
            {"fgsm_rs": {"restore": True}},
            strategy="deepspeed_zero3",
            trainer={"devices": 2, "block": 8},
        )
    return str(raised.value)


def test_weights_that_ranks_share_out_are_not_kept(pair: Pair, tmp_path: Path) -> None:
    line = "fgsm_rs: restore=true needs whole weights on each rank: use deepspeed_zero2 or ddp."
    assert pair.run(refused, str(tmp_path)) == [line, line]

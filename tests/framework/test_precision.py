"""What stays in float32 or better where the model's passes are in bfloat16: inputs, attacks, the threat and losses."""

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from contracts import kit
from poise.attacks.threat import Threat
from poise.batch import Batch, Outcome
from poise.distributed import strategy
from poise.losses import kl_divergence, soft_cross_entropy
from poise.module import TrainingModule
from poise.optimizers.sgd import sgd
from poise.recipe import Recipe
from poise.step import Step
from poise_recipes import AWP, PGD, Trades
from ranks import Pair

EPS = 3 / 256  # a float32 as it stands, so that a distance can be compared with it exactly


class Looks(Recipe):
    """Keeps the batch and the outcome of the latest step."""

    def penalty(self, outcome: Outcome, batch: Batch, step: Step) -> Tensor:
        self.outcome, self.batch = outcome, batch
        return outcome.loss.new_zeros(())


def step_in(name: str, devices: int, precision: str = "bf16-mixed") -> dict[str, Any]:
    """Facts of a step of TRADES under a strategy; in each rank process where there are several."""
    looks = Looks()
    made = TrainingModule(
        kit.model(),
        [PGD(steps=3), Trades(), looks],
        threat=Threat("linf", EPS),
        optimizer=partial(sgd, lr=0.1),
        splits=kit.splits(),
        block=kit.BLOCK,
    )
    made.prepare(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # DeepSpeed's
        chosen = strategy(name, world_size=devices, accelerator="cpu", precision=precision)
        settings = {"devices": devices, "strategy": chosen, "precision": precision, "limit_val_batches": 0}
        kit.fit(made, steps=2, settings=settings)
    return facts(looks.batch, looks.outcome)


@torch.no_grad()
def facts(batch: Batch, outcome: Outcome) -> dict[str, Any]:
    """What is looked at, in plain values."""
    clean, adv = outcome.clean, outcome.adv
    assert clean is not None
    assert adv is not None
    assert clean.features is not None
    assert batch.index is not None
    given = kit.splits().train.fetch(batch.index)["x"]
    change = (batch.attacked.double() - batch.x.double()).abs().max()
    kl = kl_divergence(clean.logits.double(), adv.logits.double())
    label_loss = soft_cross_entropy(clean.logits.double(), batch.target.double())
    return {
        "inputs": (batch.x.dtype, bool(torch.equal(batch.x, given.to(batch.x.dtype)))),
        "attacked": (batch.attacked.dtype, bool((batch.attacked == batch.attacked.bfloat16()).all())),
        "change": float(change),
        "range": (float(batch.attacked.min()), float(batch.attacked.max())),
        "passes": clean.features.dtype,
        "losses": {clean.logits.dtype, adv.logits.dtype, outcome.loss.dtype, outcome.terms["kl"].dtype},
        "kl": float((outcome.terms["kl"] - kl).abs().max()),
        "label_loss": float((outcome.terms["label_loss"] - label_loss).abs().max()),
    }


def check(seen: dict[str, Any]) -> None:
    assert seen["inputs"] == (torch.float32, True)
    assert seen["attacked"] == (torch.float32, False), "not rounded to what bfloat16 holds"
    assert 0.9 * EPS < seen["change"] <= EPS
    assert 0 <= seen["range"][0] < seen["range"][1] <= 1
    assert seen["passes"] == torch.bfloat16, "else there is nothing to see here"
    assert seen["losses"] == {torch.float32}
    assert seen["kl"] < 1e-6, "a logarithm in bfloat16 is off by a thousandth and more"
    assert seen["label_loss"] < 1e-5


def test_inputs_attacks_and_losses_are_in_float32_under_autocast() -> None:
    check(step_in("auto", 1))


@pytest.mark.parametrize("name", ["ddp", "deepspeed_zero2"])
def test_so_they_are_on_ranks(pair: Pair, name: str) -> None:
    for seen in pair.run(step_in, name, 2):
        check(seen)


def test_in_double_precision_all_of_it_is_double() -> None:
    seen = step_in("auto", 1, "64-true")
    assert seen["inputs"] == (torch.float64, True)
    assert seen["attacked"][0] == seen["passes"] == torch.float64
    assert seen["losses"] == {torch.float64}
    assert seen["change"] <= EPS


class Casts(TorchDispatchMode):
    """Counts how often a weight is cast, and whether gradients go through."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[bool] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if str(func) == "aten._to_copy.default" and isinstance(args[0], nn.Parameter):
            self.seen.append(torch.is_grad_enabled())
        return func(*args, **(kwargs or {}))


def test_a_weight_is_cast_once_a_step_and_gets_its_gradient() -> None:
    made = TrainingModule(kit.model(), [PGD(steps=3), Trades()], splits=kit.splits(), block=kit.BLOCK)
    made.prepare(1)
    made.admit(made.receive(kit.record()))
    casts = Casts()
    gradients: list[bool] = []

    class Look(Callback):
        def on_train_batch_start(self, *_: object) -> None:
            casts.__enter__()

        def on_train_batch_end(self, *_: object) -> None:
            casts.__exit__(None, None, None)

        def on_after_backward(self, *_: object) -> None:
            gradients.extend(bool(p.grad is not None and p.grad.abs().sum() > 0) for p in made.model.parameters())

    settings = {"precision": "bf16-mixed", "limit_train_batches": 1, "limit_val_batches": 0}
    kit.fit(made, steps=1, callbacks=[Look()], settings=settings)
    weights = len(list(made.model.parameters()))
    assert casts.seen.count(True) <= weights, "in three passes of the attack and two of the loss"
    assert casts.seen.count(False) <= weights, "in the pass for clean probabilities"
    assert casts.seen
    assert gradients == [True] * weights


def test_kept_casts_are_not_those_of_weights_before_a_change(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = step_of_awp()
    with monkeypatch.context() as patch:
        patch.setattr(torch, "clear_autocast_cache", lambda: None)
        stale = step_of_awp()
    monkeypatch.setattr("poise.module.keep_casts", lambda: None)  # as Lightning has it: a cast for each pass
    expected = step_of_awp()
    assert (kept - expected).norm() < 0.02 * expected.norm(), "two passes' gradients are added in bfloat16, or apart"
    assert (stale - expected).norm() > 0.1 * expected.norm()


def step_of_awp() -> Tensor:
    """How far the weights go in a step on large changes of them."""
    made = TrainingModule(
        kit.model(),
        [PGD(steps=2), Trades(), AWP(gamma=0.5)],
        optimizer=partial(sgd, lr=0.1),
        splits=kit.splits(),
        block=kit.BLOCK,
    )
    before = torch.cat([p.detach().flatten() for p in made.model.parameters()])
    kit.fit(made, steps=1, settings={"precision": "bf16-mixed", "limit_val_batches": 0})
    return torch.cat([p.detach().flatten() for p in made.model.parameters()]) - before

"""A compiled model trains as the model does, and what looks into its layers sees them."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from contracts import kit
from poise.batch import Batch
from poise.compilation import check_compiling
from poise.errors import UserError
from poise.modes import frozen_statistics
from poise.module import TrainingModule
from poise.optimizers.sgd import sgd
from poise.recipe import Recipe
from poise.step import Step
from poise_recipes import AWP, Trades
from ranks import Pair
from small_runs import network, small_fit, splits


@pytest.fixture(autouse=True)
def _fresh() -> Iterator[None]:
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


class Scale(Recipe):
    """Halves what each layer gives, and notes which it was asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def transform(self, layer: str, h: Tensor, batch: Batch, step: Step) -> Tensor:
        self.seen.add(layer)
        return h / 2 if layer != "input" else h


def made(*recipes: Recipe, compiled: str | None = None, dropout: float = 0.0) -> TrainingModule:
    net = network()
    net.features[3] = nn.Dropout(dropout)
    module = TrainingModule(net, recipes, splits=splits(), block=8, optimizer=partial(sgd, lr=0.05))
    module.prepare(1)
    if compiled:
        module.model.compile(backend=compiled)
    return module


def gradients(module: TrainingModule) -> dict[str, Tensor]:
    """Of the loss of the first step."""
    rows = next(iter(kit.loaders(module).train_dataloader()))
    kit.one_step(module, rows)
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def test_the_first_steps_gradients_are_the_same_in_compiled_code() -> None:
    expected, got = gradients(made()), gradients(made(compiled="inductor"))  # one graph: it takes seconds
    assert expected.keys() == got.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(got[name], gradient, rtol=1e-4, atol=1e-5, msg=name)


def test_steps_and_validation_take_a_few_graphs_and_no_more() -> None:
    module, eager = made(Trades(), AWP(), compiled="aot_eager", dropout=0.3), made(Trades(), AWP(), dropout=0.3)
    kit.fit(module, epochs=1)
    graphs = counters["stats"]["unique_graphs"]
    kit.fit(eager, epochs=1)
    for name, value in eager.state_dict().items():
        torch.testing.assert_close(module.state_dict()[name], value, msg=name)
    assert not counters["graph_break"]
    assert 3 <= graphs <= 6, "with and without dropout, gradients of inputs, and any of them: each once"
    again = made(Trades(), AWP(), dropout=0.3)
    again.load_state_dict(module.state_dict())  # the names are those of a model that is not compiled


def test_a_pass_that_looks_into_layers_sees_them() -> None:
    looking, expected = Scale(), Scale()
    compiled, eager = gradients(made(looking, compiled="aot_eager")), gradients(made(expected))
    assert looking.seen == expected.seen > {"input"}
    for name, gradient in eager.items():
        torch.testing.assert_close(compiled[name], gradient, msg=name)


def test_frozen_statistics_stay_in_compiled_code() -> None:
    model = made(compiled="aot_eager").model.train()
    x = torch.rand(8, 1, 8, 8)
    model(x)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with frozen_statistics(model):
        model(x)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    model(x)
    assert any(not torch.equal(value, model.state_dict()[name]) for name, value in before.items())


def test_a_run_that_compiles_finds_what_the_others_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compile_ = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", lambda module, **_: compile_(module, backend="aot_eager"))
    settings: dict[str, Any] = {"compile": True, "max_epochs": 1}
    result = small_fit(tmp_path / "run", "trades", trainer=settings)
    assert counters["stats"]["unique_graphs"] > 0
    expected = small_fit(tmp_path / "eager", "trades", trainer={"max_epochs": 1})
    assert result.metrics == pytest.approx(expected.metrics, abs=1e-4)


def test_two_ranks_compile_each_its_own(pair: Pair) -> None:
    for own in pair.run(compiled_on_ranks):
        assert own < 1e-9


def compiled_on_ranks() -> float:
    """In a rank process: how far DDP's weights are from those without compilation."""
    found = []
    for backend in (None, "aot_eager"):
        module = kit.admitted(("pgd", "trades")).double()
        if backend:
            module.model.compile(backend=backend)
        kit.fit(module, steps=2, settings={"devices": 2, "strategy": "ddp", "precision": "64-true"})
        found.append(torch.cat([p.detach().flatten() for p in module.parameters()]))
    return float((found[0] - found[1]).abs().max())


def test_no_compiler_and_shared_weights_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_compiling("cpu", zero_stage=2)
    with pytest.raises(UserError, match=r"ZeRO 3.*deepspeed_zero2, or trainer\.compile=false"):
        check_compiling("cpu", zero_stage=3)
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UserError, match=r"no compiler on this machine \(CXX=no-such-compiler\)"):
        small_fit(tmp_path / "run", trainer={"compile": True})
    assert not os.path.exists(tmp_path / "run")
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"\(gcc or clang\): install one.*trainer\.compile=false"):
        check_compiling("cuda", zero_stage=0)

"""The README's Python, run as it stands there but for the number of epochs."""

import re
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from poise import Batch, Step, fit

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(block: str, **names: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on loaders
        exec(compile(block.replace("max_epochs=10", "max_epochs=1").replace(": 10}", ": 1}"), "README", "exec"), names)
    return names


def test_fit_and_predict() -> None:
    names = run(BLOCKS[0])
    assert 0 <= names["result"].metrics["test/ece"] <= 1
    torch.testing.assert_close(names["predictor"](torch.rand(4, 1, 8, 8)).sum(1), torch.ones(4))


def test_a_script_of_ones_own() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = model[1].weight.detach().clone()
    rows = TensorDataset(torch.rand(32, 1, 8, 8), torch.arange(32) % 10, torch.arange(32) % 4)
    run(BLOCKS[1], model=model, train_loader=DataLoader(rows, batch_size=16))
    assert not torch.equal(model[1].weight, before)


def test_a_recipe_of_ones_own_trains_on_top_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("confidence.py").write_text(BLOCKS[2], encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    recipe = {"name": "trades,confidence:ConfidencePenalty", "ConfidencePenalty": {"strength": 0.05}}
    result = fit(recipe, trainer={"max_epochs": 1, "progress": False}, evaluation="clean")
    assert "ConfidencePenalty" in (result.path / "config.yaml").read_text()
    assert "train/ConfidencePenalty" in (result.path / "log.txt").read_text()


def test_hooks_by_hand() -> None:
    from poise_recipes import PGD, Trades

    batch = Batch.of(torch.rand(6, 5), torch.arange(6) % 4, num_classes=4)
    step = Step(nn.Linear(5, 4))
    batch = PGD().attack(batch, step)
    assert Trades().objective(batch, step).loss.shape == (6,)

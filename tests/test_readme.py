"""The README's Python, run as it stands there but for the number of epochs."""

import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from contracts import docstrings
from poise import Batch, Step, fit, registry
from poise.cli import main
from poise.config import compose, presets, to_yaml
from poise.config.evaluating import parse_evaluation
from poise.registry.hooks import HOOKS
from written import hold

PATH = Path(__file__).parents[1] / "README.md"
README = PATH.read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
SAVED, ATTACKED, MEASURED, CALIBRATED, CALIBRATOR, FIT, SCRIPT, PENALTY, ATTACK, *_ = BLOCKS


def recipe_table() -> str:
    """The README's table of recipes, as the registry has them."""
    ours = [r for k in ("recipe", "calibrator") for r in registry.records(k).values() if "poise_recipes" in r.qualified]
    rows = ["| name | what it does | paper |", "| --- | --- | --- |"]
    for record in ours:
        authors, *_, year, arxiv = record.paper.split(", ")
        what = record.doc.partition(chr(10))[0].replace("|", r"\|")
        rows.append(f"| `{record.name}` | {what} | {authors}, {year}, {arxiv} |")
    return "\n".join(rows)


def test_the_table_of_recipes_is_the_registrys() -> None:
    before, heading, after = README.partition("## Recipes\n\n")
    hold(PATH, before + heading + recipe_table() + after[after.index("\n\n") :])


def test_every_hook_is_in_the_table_of_hooks() -> None:
    named = set(re.findall(r"`([a-z_]+)\(", README.partition("| hook |")[2].partition("\n\n")[0]))
    assert named == set(HOOKS)


def test_presets_are_named() -> None:
    named = re.search(r"Presets, settings as published: (.*) \(", README)
    assert named is not None
    assert sorted(re.findall(r"`(\w+)`", named[1])) == sorted(presets.names())


def commands(name: str) -> list[list[str]]:
    """Every `poise <name>` of the README, as a shell splits it."""
    lines = (line for block in re.findall(r"```bash\n(.*?)```", README, re.DOTALL) for line in block.splitlines())
    parts = (part.strip() for line in lines for part in line.split("&&"))
    return [shlex.split(part, comments=True)[2:] for part in parts if part.startswith(f"poise {name}")]


@pytest.mark.parametrize("words", commands("train"), ids=" ".join)
def test_every_command_composes(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("confidence.py").write_text(PENALTY, encoding="utf-8")
    registry.refresh()
    assert main(["train", *words, *([] if "--print-config" in words else ["--print-config"])]) == 0
    assert not capsys.readouterr().err


def test_every_evaluation_composes(monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path("my_package")
    package.mkdir()
    (package / "my_module.py").write_text("def make(num_classes: int = 2): ...\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    for name in ("weights.safetensors", "mine.npz"):
        Path(name).touch()
    run = Path("run")
    run.mkdir()
    (run / "config.yaml").write_text(to_yaml(compose()), encoding="utf-8")
    found = commands("evaluate")
    assert len(found) == 10
    for words in found:
        assert parse_evaluation(words, lambda name, uri: run).config.evaluation


def test_from_logits_to_calibrated_probabilities(capsys: pytest.CaptureFixture[str]) -> None:
    generator = np.random.default_rng(0)
    logits = generator.normal(0, 3, (60, 4))
    run(SAVED, logits=logits, labels=np.where(generator.random(60) < 0.6, logits.argmax(1), 0))
    np.savez("new.npz", logits=logits)
    for words in commands("calibrate"):
        assert main(["calibrate", *words]) == 0
    for name in ("calibrated.npz", "new-calibrated.npz"):
        np.testing.assert_allclose(np.load(name)["probabilities"].sum(1), 1, atol=1e-6)
    assert "cross-validated" in capsys.readouterr().out


def test_the_mistakes_it_shows_are_those_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    shown = README.partition("```\n$ poise ")[2].partition("\n```")[0].splitlines()
    assert main(shown[0].split()) == 2
    assert capsys.readouterr().err.splitlines() == shown[1:]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(block: str, **names: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice on loaders
        exec(compile(block.replace("max_epochs=10", "max_epochs=1").replace(": 10}", ": 1}"), "README", "exec"), names)
    return names


def test_fit_and_predict() -> None:
    names = run(FIT)
    assert 0 <= names["result"].metrics["test/ece"] <= 1
    torch.testing.assert_close(names["predictor"](torch.rand(4, 1, 8, 8)).sum(1), torch.ones(4))


def test_metrics_alone() -> None:
    names = run(MEASURED, logits=torch.randn(20, 3), labels=torch.arange(20) % 3)
    assert 0 <= float(names["ece"].compute()) <= 1


def test_calibrators_alone() -> None:
    names = run(CALIBRATED, logits=torch.randn(20, 3), labels=torch.arange(20) % 3)
    assert names["calibrator"].temperature > 0


def test_a_calibrator_of_ones_own() -> None:
    Path("shift.py").write_text(CALIBRATOR, encoding="utf-8")
    registry.refresh()
    logits = torch.randn(90, 3, generator=torch.Generator().manual_seed(0))
    np.savez("mine.npz", logits=logits.numpy(), labels=np.arange(90) % 30 // 20)
    assert main(["calibrate", "logits=mine.npz", "calibration=shift:Shift", "out=out.npz"]) == 0
    before, after = logits.softmax(1).mean(0), np.load("out.npz")["probabilities"].mean(0)
    assert before[0] < 0.4
    assert after[0] > 0.5  # two thirds of the labels
    assert np.isfinite(after).all()


def test_attacks_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    x = torch.rand(6, 1, 8, 8)
    names = run(ATTACKED, model=model, x=x, y=model(x).argmax(1))
    assert torch.equal(names["x_adv"], names["verdict"].x_adv)
    assert list(names["verdict"].robust) == ["clean", "apgd-ce", "apgd-t", "fab-t", "square"]


def test_a_script_of_ones_own() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = model[1].weight.detach().clone()
    rows = TensorDataset(torch.rand(32, 1, 8, 8), torch.arange(32) % 10, torch.arange(32) % 4)
    run(SCRIPT, model=model, train_loader=DataLoader(rows, batch_size=16))
    assert not torch.equal(model[1].weight, before)


def test_a_recipe_of_ones_own_trains_on_top_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("confidence.py").write_text(PENALTY, encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    recipe = {"name": "trades,confidence:ConfidencePenalty", "ConfidencePenalty": {"strength": 0.05}}
    result = fit(recipe, trainer={"max_epochs": 1, "progress": False}, evaluation="clean", tracking="none")
    assert "ConfidencePenalty" in (result.path / "config.yaml").read_text()
    assert "train/ConfidencePenalty" in (result.path / "log.txt").read_text()


def test_a_recipe_with_an_attack(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("robust.py").write_text(ATTACK, encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    settings = {"trainer": {"max_epochs": 1, "progress": False}, "evaluation": "clean", "tracking": "none"}
    result = fit("robust:AdversarialTraining,mixup", **settings)
    assert "train/confidence" in (result.path / "log.txt").read_text()
    config = (result.path / "config.yaml").read_text()
    assert "steps: 7" in config


def test_a_recipe_of_ones_own_is_as_ours_have_to_be(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("confidence.py").write_text(PENALTY, encoding="utf-8")
    monkeypatch.syspath_prepend(str(Path.cwd()))
    registry.refresh()
    assert docstrings.missing(registry.find("recipe", "confidence:ConfidencePenalty")) == []
    place = PATH.parent / "recipes" / "poise_recipes" / "penalties" / "confidence_penalty.py"
    for words in (["check"], ["format", "--check"]):
        command = [sys.executable, "-m", "ruff", *words, "--stdin-filename", str(place), "-"]
        done = subprocess.run(command, input=PENALTY, capture_output=True, text=True, check=False, cwd=PATH.parent)
        assert done.returncode == 0, done.stdout


def test_hooks_by_hand() -> None:
    from poise_recipes import PGD, Trades

    batch = Batch.of(torch.rand(6, 5), torch.arange(6) % 4, num_classes=4)
    step = Step(nn.Linear(5, 4))
    batch = PGD().attack(batch, step)
    assert Trades().objective(batch, step).loss.shape == (6,)

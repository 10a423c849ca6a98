import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from poise.cli import main
from poise.config import ConfigErrors, explain, from_yaml, parse, to_mapping
from poise.config.compose import explained

GIVEN = ["recipe=trades_cifar10,mixup,temperature_scaling", "recipe.trades.beta=3", "slurm.gpus=2", "tables.a=x # y"]


def origins(text: str) -> dict[str, str]:
    """The origin of each value, by path, as a reader sees it."""
    found, above = {}, list[str]()
    for line in text.splitlines():
        key, _, rest = line.strip().partition(":")
        above = [*above[: (len(line) - len(line.lstrip())) // 2], key]
        if rest.strip() not in ("", "{}"):
            found[".".join(above)] = rest.rpartition("  # ")[2]
    return found


def paths(tree: object, prefix: str = "") -> list[str]:
    if isinstance(tree, dict):
        return [path for key, value in tree.items() for path in paths(value, f"{prefix}{key}.")]
    return [prefix.removesuffix(".")]


def test_each_value_says_where_it_comes_from(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("optimizer: {lr: 0.5}\ntrainer: {max_epochs: 3, batch_size: 64}\nseed: ${slurm.gpus}\n")
    given = [*GIVEN, f"config={file}", "trainer.batch_size=32"]
    assert origins(explain(given)) == dict.fromkeys(paths(to_mapping(parse(given))), "default") | {
        "recipe.name": "command line, preset trades_cifar10, pgd brought by trades",
        "recipe.trades.beta": "command line",
        **{f"recipe.pgd.{name}": "preset trades_cifar10" for name in ("steps", "step_size", "start", "mode")},
        "calibration.name": "command line, preset trades_cifar10",
        **{f"optimizer.{name}": "preset trades_cifar10" for name in ("name", "momentum", "nesterov", "weight_decay")},
        "optimizer.lr": str(file),
        **{f"schedule.{name}": "preset trades_cifar10" for name in ("name", "milestones", "gamma")},
        **{f"model.{name}": "preset trades_cifar10" for name in ("name", "mean", "std")},
        "data.name": "preset trades_cifar10",
        "threat.name": "preset trades_cifar10",
        "threat.eps": "preset trades_cifar10",
        "trainer.max_epochs": str(file),
        "trainer.batch_size": "command line",
        "trainer.devices": "slurm.nodes × slurm.gpus",
        "slurm.gpus": "command line",
        "tables.a": "command line",
        "seed": str(file),
    }


def test_what_a_member_was_brought_with() -> None:
    found = origins(explain(["recipe=trades", "recipe.pgd.steps=3"]))
    assert {path: origin for path, origin in found.items() if path.startswith("recipe")} == {
        "recipe.name": "command line, pgd brought by trades",
        "recipe.trades.beta": "default",
        "recipe.trades.label_on": "default",
        "recipe.pgd.steps": "command line",
        "recipe.pgd.step_size": "default",
        "recipe.pgd.start": "brought by trades",
        "recipe.pgd.mode": "default",
    }
    assert origins(explain({"recipe": "trades"}))["recipe.name"] == "Python, pgd brought by trades"
    assert set(origins(explain([])).values()) == {"default"}


def test_a_list_above_drops_parameters_of_a_file_and_it_shows(tmp_path: Path) -> None:
    file = tmp_path / "my.yaml"
    file.write_text("recipe: {name: [mixup, trades], mixup: {alpha: 3}}\n")
    text = explain([f"config={file}", "recipe=trades"])
    assert "alpha" not in text
    assert origins(text)["recipe.name"] == "command line, pgd brought by trades"


def test_it_is_yaml_that_comes_back(tmp_path: Path) -> None:
    given = [
        *GIVEN,
        "run_dir=a: 'b' # ${c}\n\u2028é",
        "schedule.milestones=0.1,0.2",
        f"tables.{'k' * 2000}={'v' * 3000}",
    ]
    text = explain(given)
    (tmp_path / "printed.yaml").write_text(text, encoding="utf-8")
    assert parse([f"config={tmp_path / 'printed.yaml'}"]) == from_yaml(text) == parse(given)


def test_it_is_pleasant_to_read() -> None:
    lines = explain(["recipe=trades_cifar10,mixup", "run_dir=" + "x" * 100]).splitlines()
    comments = {line.index("  # ") for line in lines if "  # " in line and len(line) < 100}
    assert len({line.index("# ") for line in lines if "  # " in line and "xxx" not in line}) == 1
    assert comments
    assert "  name: [trades, pgd, mixup]" in lines[1]
    assert "  milestones: [0.9736842105263158]" in "\n".join(lines)
    assert all(line == line.rstrip() for line in lines)


def test_mistakes_are_as_of_any_config() -> None:
    with pytest.raises(ConfigErrors) as raised:
        explain(["recipe=trade", "seed=x"])
    assert len(raised.value.mistakes) == 2
    with pytest.raises(ConfigErrors):
        explain({"seed": "x"})


@pytest.mark.parametrize(("words", "code"), [(["recipe=trades_cifar10"], 0), (["recipe=trade", "seed=x"], 2)])
def test_the_command(words: list[str], code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *words, "--print-config"]) == code
    printed = capsys.readouterr()
    if code:
        assert (printed.out, len(printed.err.splitlines())) == ("", 2)
    else:
        assert (printed.out, printed.err) == (explain(words) + "\n", "")


def test_nothing_is_trained_and_torch_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "my.yaml").write_text("run_dir: runs/${seed}\n")
    code = (
        "import sys; from poise.cli import main;"
        "code = main(['train', 'recipe=trades_cifar10,mixup', 'config=my.yaml', '--print-config']);"
        "sys.exit(code or any(m in sys.modules for m in ('torch', 'lightning', 'sklearn', 'mlflow', 'poise_recipes')))"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}  # the tests' import hook
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, env=environment, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"^run_dir: runs/0 +# my.yaml$", done.stdout, re.MULTILINE)
    assert [path.name for path in tmp_path.iterdir()] == ["my.yaml"]


def test_two_that_bring_the_same_recipe_differently_are_a_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = tmp_path / "bringers.py"
    module.write_text(
        "from poise import Recipe\n\n\nclass One(Recipe):\n    brings = {'pgd': {'steps': 3}}\n\n\n"
        "class Two(Recipe):\n    brings = {'pgd': {'steps': 4, 'start': 'uniform'}}\n\n\n"
        "class Same(Recipe):\n    brings = {'pgd': {'steps': 3, 'mode': 'eval'}}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigErrors) as raised:
        parse(["recipe=bringers:One,bringers:Two"])
    assert raised.value.mistakes[0] == (
        "recipe=bringers:One,bringers:Two: One brings pgd with steps=3, Two with steps=4: add pgd to the stack "
        "yourself, and set its steps."
    )
    assert parse(["recipe=bringers:One,bringers:Two,pgd"], ()).recipe["pgd"].params["steps"] == 10
    both = parse(["recipe=bringers:One,bringers:Same"], ()).recipe["pgd"]
    assert (both.params["steps"], both.brought_by) == (3, "One")
    _, origins = explained(["recipe=bringers:One,bringers:Same"], ())
    assert (origins["recipe.pgd.steps"], origins["recipe.pgd.mode"]) == ("brought by One", "brought by Same")

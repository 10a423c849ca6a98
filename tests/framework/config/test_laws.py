"""What holds of every config: one grammar on the command line, in Python and in files."""

import random
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from config_strategies import arguments, flat, runs, typed
from poise.config import Config, Entry, compose, explain, from_yaml, parse, to_mapping, to_yaml
from poise.config.references import escaped


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("laws") / "config.yaml"


def written(text: str, file: Path) -> Config:
    """What a real file says."""
    file.write_text(text, encoding="utf-8")
    return parse([f"config={file}"], ())


@settings(max_examples=40, deadline=None)
@given(runs(), st.randoms(use_true_random=False))
def test_the_command_line_python_and_files_say_the_same(
    file: Path, values: dict[str, Any], order: random.Random
) -> None:
    said = arguments(values)
    config = parse(order.sample(said, len(said)), ())
    assert config == compose(values, ())
    assert config == compose(dict(flat(values)), ())
    as_typed = {path: typed(value) for path, value in (word.partition("=")[::2] for word in said)}
    assert config == written(yaml.safe_dump(escaped(as_typed), allow_unicode=False), file)


@settings(max_examples=40, deadline=None)
@given(runs())
def test_what_is_typed_comes_back_from_what_is_written(file: Path, values: dict[str, Any]) -> None:
    config = parse(arguments(values), ())
    assert written(to_yaml(config), file) == config
    assert to_yaml(written(to_yaml(config), file)) == to_yaml(config)
    for path, value in flat(values):
        if not path.endswith(".name") and path != "threat.eps":
            assert at(to_mapping(config), path) == value


def at(tree: Any, path: str) -> Any:
    for part in path.split("."):
        tree = tree[part]
    return tree


@settings(max_examples=40, deadline=None)
@given(runs())
def test_what_is_printed_composes_to_the_same(file: Path, values: dict[str, Any]) -> None:
    said = arguments(values)
    config = parse(said, ())
    assert written(explain(said, ()), file) == config
    assert written(explain(values, ()), file) == config
    assert explain([f"config={file}"], ()).count("# default") == 0


ARGUMENTS = [
    *("recipe=trades_cifar10,tiny_smoothing@a,tiny_smoothing@b,temperature_scaling@t,mixup", "recipe.a.smoothing=1/4"),
    *("recipe.trades.beta=3", "recipe.pgd.steps=3", "calibration.t.lowest=0.5", "optimizer.momentum=0.5"),
    *("data=digits,subset,subset@again", "data.subset.fraction=0.5", "data.again.fraction=1/4", "data.val=0.2"),
    *("evaluation.strong.steps=50", "evaluation=adversarial@strong", "threat=l2", "threat.eps=0.5"),
    *("slurm.gpus=2", "tracking=none", "seed=3", "tables.a=x"),
]


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_arguments_never_matters(order: random.Random) -> None:
    shuffled = order.sample(ARGUMENTS, len(ARGUMENTS))
    assert parse(shuffled) == parse(ARGUMENTS)
    assert to_yaml(parse(shuffled)) == to_yaml(parse(ARGUMENTS))
    assert explain(shuffled) == explain(ARGUMENTS)


def test_what_those_arguments_mean() -> None:
    config = parse(ARGUMENTS)
    assert list(config.recipe) == ["trades", "pgd", "a", "b", "mixup"]
    assert config.recipe["pgd"].params["step_size"] == 0.007
    assert list(config.calibration) == ["t"]
    assert config.calibration["t"].params["lowest"] == 0.5
    assert config.data.wrappers == {
        "subset": Entry("subset", {"fraction": 0.5}),
        "again": Entry("subset", {"fraction": 0.25}),
    }
    assert (config.threat.eps, config.trainer.devices, config.trainer.max_epochs) == (0.5, 2, 76)


OWN = "poise_hook_recipes.labels.tiny_smoothing:TinySmoothing"


@pytest.mark.parametrize(
    ("said", "path", "value"),
    [
        (["schedule=multi_step", "schedule.milestones=0.3,0.6"], "schedule.milestones", [0.3, 0.6]),
        (["schedule=multi_step", "schedule.milestones="], "schedule.milestones", []),
        (["recipe=pgd_at,tiny_smoothing@a,tiny_smoothing@b", "recipe.b.smoothing=0.3"], "recipe.b.smoothing", 0.3),
        (["recipe=pgd_at,tiny_smoothing@a,tiny_smoothing@b"], "recipe.a.smoothing", 0.1),
        ([f"recipe={OWN}", "recipe.TinySmoothing.smoothing=1/5"], "recipe.TinySmoothing.smoothing", 0.2),
        ([f"recipe={OWN}@mine", "recipe.mine.smoothing=1/5"], "recipe.name", [f"{OWN}@mine"]),
        (["recipe=trades_cifar10", "recipe.trades.beta=3"], "recipe.trades.beta", 3.0),
        (["data=digits,subset", "data.subset.fraction=1/4"], "data.subset.fraction", 0.25),
        (["tables.errors=runs/a=b,c"], "tables.errors", "runs/a=b,c"),
        (["tables.errors=${HOME}"], "tables.errors", "${HOME}"),
        (["slurm.extra=--export=ALL,A=1"], "slurm.extra", "--export=ALL,A=1"),
        (["slurm.time=30:00"], "slurm.time", "30:00"),
        (["tracking.experiment=010"], "tracking.experiment", "010"),
        (["run_dir=a # b"], "run_dir", "a # b"),
        (["model=timm/resnet18.a1_in1k", "model.pretrained=true"], "model.name", "timm/resnet18.a1_in1k"),
        (["model=timm/resnet18", "model.pretrained=true"], "model.pretrained", True),
        (["model=mlp", "model.checkpoint=a, b.pt"], "model.checkpoint", "a, b.pt"),
    ],
)
def test_each_form_comes_back_everywhere(file: Path, said: list[str], path: str, value: Any) -> None:
    config = parse(said)
    assert at(to_mapping(config), path) == value
    for text in (to_yaml(config), explain(said)):
        assert written(text, file) == config
    assert compose(dict(word.split("=", 1) for word in said)) == config
    assert compose(to_mapping(config)) == config
    assert from_yaml(yaml.safe_dump(escaped(dict(word.split("=", 1) for word in said)))) == config

"""What a call of `fit` may be given, and the config that it stands for."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from poise.config import compose, from_yaml, to_yaml
from poise.data.sources.digits import Digits
from poise.errors import UserError
from poise.given import config_of
from poise_recipes import AWP, PGD, Mixup, TemperatureScaling, Trades
from small_runs import network, splits

MINE = """
from pathlib import Path

from poise import Recipe
from poise_recipes import Trades

class Mine(Trades):
    def __init__(self, beta: float = 2.0, strength: int = 3) -> None:
        super().__init__(beta)
        self.strength = strength


class Keeps(Recipe):
    def __init__(self, value: Path) -> None:
        super().__init__()
        self.value = value
"""


def given(recipe: Any = (), data: Any = None, model: Any = None, **groups: Any) -> Any:
    return config_of(recipe, data, model, groups)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    (tmp_path / "my_recipes.py").write_text(MINE)
    monkeypatch.syspath_prepend(str(tmp_path))
    import my_recipes

    yield my_recipes
    del sys.modules["my_recipes"]


def test_names_mappings_and_objects_stand_for_the_same_config() -> None:
    expected = compose({"recipe": {"name": ["trades", "mixup"], "trades": {"beta": 4.0}}})
    for recipe in (
        [Trades(beta=4.0), Mixup()],
        [Trades(beta=4.0), "mixup"],
        {"trades": {"beta": 4.0}, "mixup": {}},
        {"trades": Trades(beta=4.0), "mixup": {}},
        {"name": "trades,mixup", "trades": {"beta": 4.0}},
        {"name": ["trades", "mixup"], "trades": {"beta": 4.0}},
    ):
        config, objects = given(recipe)
        assert config == expected
        assert objects.unwritable == ""
    assert given("trades, mixup")[0] == compose({"recipe": "trades,mixup"})
    assert given(())[0] == compose({})


def test_other_groups_are_the_configs_own() -> None:
    config, _ = given("trades", trainer={"max_epochs": 3}, optimizer={"name": "adamw", "lr": 0.01}, seed=4)
    assert (config.trainer.max_epochs, config.optimizer.name, config.optimizer.params["lr"]) == (3, "adamw", 0.01)
    assert config.seed == 4
    with pytest.raises(UserError, match="max_epoch.*max_epochs"):
        given("trades", trainer={"max_epoch": 3})
    with pytest.raises(UserError, match=r"optimiser.*Did you mean .*optimizer"):
        given("trades", optimiser={"lr": 1})


def test_calibrators_go_where_they_belong() -> None:
    config, _ = given([Trades(), TemperatureScaling(highest=50.0)])
    assert list(config.recipe) == ["trades", "pgd"]
    assert config.calibration["temperature_scaling"].params["highest"] == 50.0
    with pytest.raises(UserError, match="both in recipe= and in calibration="):
        given([TemperatureScaling()], calibration="temperature_scaling")


def test_members_that_are_brought_may_be_given_too() -> None:
    config, objects = given([Trades(), PGD(steps=3)])
    assert config.recipe["pgd"].params["steps"] == 3
    assert objects.recipes["pgd"].steps == 3


def test_what_a_mapping_says_of_recipes_that_are_brought_counts() -> None:
    config, _ = given({"name": "trades", "pgd": {"steps": 3}})
    assert config.recipe["pgd"].params["steps"] == 3
    assert config.recipe["pgd"].params["start"] == "normal"
    with pytest.raises(UserError, match="'pdg' is not in recipe=trades,pgd. Did you mean 'pgd'"):
        given({"name": "trades", "pdg": {"steps": 3}})


def test_presets_stand_among_objects() -> None:
    class Local(Mixup): ...

    config, _ = given({"name": "trades_cifar10,mixup", "trades": {"beta": 3.0}})
    assert config == compose({"recipe": "trades_cifar10,mixup", "recipe.trades.beta": 3.0})
    config, _ = given([Local(), "trades_cifar10", "mixup"])
    assert [entry.name for entry in config.recipe.values()] == ["object:Local", "trades", "pgd", "mixup"]
    config, _ = given(["trades_cifar10", Local(), "mixup"])
    assert [entry.name for entry in config.recipe.values()] == ["trades", "pgd", "object:Local", "mixup"]


def test_two_of_one_name_need_aliases() -> None:
    with pytest.raises(UserError, match="two recipes are called mixup: give a mapping"):
        given([Mixup(), Mixup(alpha=2.0)])
    config, _ = given({"mixup": Mixup(), "second": Mixup(alpha=2.0)})
    assert [entry.name for entry in config.recipe.values()] == ["mixup", "mixup"]
    assert config.recipe["second"].params["alpha"] == 2.0
    assert from_yaml(to_yaml(config)) == config


def test_ones_own_class_is_written_by_its_import_path(mine: Any) -> None:
    config, objects = given([mine.Mine(beta=3.0)])
    assert config.recipe["Mine"].name == "my_recipes:Mine"
    assert config.recipe["Mine"].params == {"beta": 3.0, "strength": 3}
    assert "pgd" in config.recipe
    assert objects.unwritable == ""
    named, _ = given({"name": "my_recipes:Mine", "Mine": {"beta": 3.0}})
    assert named == config
    assert given("my_recipes:Mine,mixup")[0].recipe["Mine"].params["beta"] == 2.0


def test_a_class_that_other_processes_cannot_import_is_an_object() -> None:
    class Local(Trades):
        """Defined where nobody else finds it."""

    config, objects = given([Mixup(), Local(beta=1.0), AWP()])
    assert [entry.name for entry in config.recipe.values()][:3] == ["mixup", "object:Local", "awp"]
    assert isinstance(objects.recipes["Local"], Local)
    assert "Local cannot be imported" in objects.unwritable
    assert "name it module:Local" in objects.unwritable


@pytest.mark.parametrize(
    ("value", "said"),
    [(torch.ones(2), "is a Tensor, which cannot be written"), (Path(), "no type that text can be read by")],
)
def test_arguments_that_cannot_be_written_make_an_object(mine: Any, value: Any, said: str) -> None:
    config, objects = given([mine.Keeps(value), Mixup()])
    assert [entry.name for entry in config.recipe.values()] == ["object:Keeps", "mixup"]
    assert said in objects.unwritable


def test_models_and_data_are_names_mappings_or_objects() -> None:
    config, _ = given(data={"name": "digits", "val": 0.2}, model={"name": "small_cnn", "width": 4})
    assert (config.data.params["val"], config.model.params["width"]) == (0.2, 4)
    assert given(data=Digits(val=0.2))[0].data == config.data
    for model in (network(), {"name": "mlp"}):
        assert given(data=splits(), model=model, **{"model.checkpoint": Path("w.pt")})[0].model.checkpoint == "w.pt"
    config, objects = given(data=splits(), model=network())
    assert (config.data.name, config.model.name) == ("object:Splits", "object:Network")
    assert isinstance(objects.model, nn.Module)
    assert objects.unwritable.startswith("the model was given as an object")
    assert "DataSource" in given(data=splits())[1].unwritable


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"data": 3}, r"fit\(data=…\) was given an object of type int: give a name"),
        ({"data": Digits}, "the class Digits"),
        ({"model": nn.Linear}, "the class Linear: give a name, a mapping or a module"),
        ({"recipe": 3}, r"fit\(recipe=…\) was given an object of type int"),
        ({"recipe": [Trades]}, r"holds the class Trades: give names and recipe objects"),
        ({"recipe": [network()]}, "an object of type Network"),
    ],
)
def test_what_is_none_of_these_is_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        given(**wrong)

import sys
from types import ModuleType

import pytest
import torch
from torch import nn

from poise import registry
from poise.config import compose, write_down, written
from poise.errors import UserError
from poise.recipe import Recipe


class Own(Recipe):
    """A recipe of a test's own."""

    def __init__(self, alpha: float = 0.5, sizes: list[int] | None = None) -> None:
        super().__init__()
        self.alpha, self.sizes = alpha, sizes


def test_objects_are_written_down_and_composed_again() -> None:
    trades = registry.build("recipe", "trades", beta=3.0)
    scaling = registry.build("calibrator", "temperature_scaling", lowest=0.5)
    values = write_down([trades, "mixup", scaling])
    assert values == {
        "recipe": {"name": ["trades", "mixup"], "trades": {"beta": 3.0, "label_on": "clean"}},
        "calibration": {
            "name": ["temperature_scaling"],
            "temperature_scaling": {"lowest": 0.5, "highest": 100.0},
        },
    }
    config = compose(values | {"seed": 3})
    assert list(config.recipe) == ["trades", "pgd", "mixup"]
    assert config.recipe["trades"].params["beta"] == 3.0
    assert config.calibration["temperature_scaling"].params["lowest"] == 0.5


def test_two_of_one_class_get_aliases() -> None:
    mixup = [registry.build("recipe", "mixup", alpha=alpha) for alpha in (1.0, 2.0)]
    values = write_down(["mixup@mixup_2", *mixup])
    assert values["recipe"]["name"] == ["mixup@mixup_2", "mixup", "mixup@mixup_3"]
    assert [entry.params["alpha"] for entry in compose(values).recipe.values()] == [1.0, 1.0, 2.0]


def test_names_are_as_on_the_command_line() -> None:
    assert write_down("trades,mixup") == {"recipe": {"name": ["trades", "mixup"]}}
    assert write_down([]) == {"recipe": {"name": []}}
    assert compose(write_down([])).recipe == {}


def test_a_class_of_ones_own_is_written_by_its_path(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("own_module_of_a_test")
    module.Own = Own  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(Own, "__module__", module.__name__)
    name, params = written(Own(0.25, [1, 2]))
    assert (name, params) == ("own_module_of_a_test:Own", {"alpha": 0.25, "sizes": [1, 2]})
    assert write_down([Own()])["recipe"]["Own"] == {"alpha": 0.5, "sizes": None}


def test_a_notebooks_class_is_refused_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Own, "__module__", "__main__")
    with pytest.raises(UserError, match=r"Own is defined in a notebook .* put it in a module, at top level, and name"):
        write_down([Own()])


def test_a_local_class_is_refused() -> None:
    class Local(Recipe): ...

    with pytest.raises(UserError, match=r"Local cannot be imported .* name it module:Local"):
        write_down([Local()])


def test_what_text_cannot_hold_is_refused() -> None:
    mixup = registry.build("recipe", "mixup")
    mixup.alpha = torch.ones(2)
    with pytest.raises(UserError, match="Mixup.alpha is a Tensor, which cannot be written into a config"):
        write_down([mixup])


def test_what_is_neither_recipe_nor_calibrator_is_refused() -> None:
    with pytest.raises(UserError, match="Linear is no recipe and no calibrator"):
        write_down([nn.Linear(1, 1)])


def test_data_sources_are_written_too() -> None:
    name, params = written(registry.build("data", "digits", val=0.2))
    assert compose({"data": {"name": name, **params}}).data.params["val"] == 0.2

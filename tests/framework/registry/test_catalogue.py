import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from poise import registry
from poise.errors import UserError
from poise.recipe import Recipe

Write = Callable[[str, str], None]
Register = Callable[[str], None]

BASE = """
    from typing import ClassVar, Literal
    from poise.recipe import Recipe

    class Base(Recipe):
        '''A base.'''
        provides: ClassVar[frozenset[str]] = frozenset({"a"})
        needs = frozenset({"b"})

        def __init__(self, alpha: float = 8 / 255, mode: Literal["x", "y"] = "x") -> None:
            super().__init__()
            self.alpha, self.mode = alpha, mode

        def attack(self, batch, step):
            return batch
"""
CHILD = """
    import other.family.base as origin

    class SomeChild(origin.Base):
        '''A child.'''
        needs = frozenset()

        def __init__(self, size: int, **kwargs) -> None:
            super().__init__(**kwargs)
            self.size = size

        def objective(self, batch, step): ...
"""


def test_a_strangers_package_is_found_like_the_built_in_one(write: Write, registered: Register) -> None:
    write("other/__init__.py", "raise RuntimeError('nobody imports this')")
    write("other/family/base.py", BASE)
    write("other/family/some_child.py", CHILD)
    write("other/family/_helper.py", "class Helper: ...")
    registered("other")
    found = registry.records("recipe")
    assert {"base", "some_child", "trades"} <= set(found)
    child = found["some_child"]
    assert child.qualified == "other.family.some_child:SomeChild"
    assert child.hooks == ("attack", "objective")
    assert (child.provides, child.needs) == (frozenset({"a"}), frozenset())
    assert child.doc == "A child."
    assert [(p.name, p.type, p.default) for p in child.parameters][:2] == [
        ("size", int, registry.REQUIRED),
        ("alpha", float, 8 / 255),
    ]
    assert "other" not in sys.modules


def test_a_subclass_without_a_constructor_inherits_it(write: Write) -> None:
    write("own_pkg/base.py", BASE)
    write(
        "own_pkg/mine.py", "from .base import Base\nclass Mine(Base):\n    def mix(self, batch, step): return batch\n"
    )
    record = registry.resolve("recipe", "own_pkg.mine:Mine")
    assert [p.name for p in record.parameters] == ["alpha", "mode"]
    assert record.hooks == ("mix", "attack")
    assert "own_pkg" not in sys.modules


def test_resolution_order_is_pythons(write: Write) -> None:
    write(
        "diamond.py",
        """
        from poise.recipe import Recipe
        class A(Recipe):
            paper = "a"
        class B(A):
            needs = frozenset({"b"})
        class C(A):
            paper = "c"
            needs = frozenset({"c"})
        class D(B, C): ...
        """,
    )
    record = registry.resolve("recipe", "diamond:D")
    loaded = registry.load(record)
    assert (record.paper, record.needs) == ("c", frozenset({"b"})) == (loaded.paper, loaded.needs)


def test_two_of_one_name_are_refused(write: Write, registered: Register) -> None:
    write("other_two/trades.py", "from poise.recipe import Recipe\nclass Trades(Recipe): ...\n")
    registered("other_two")
    with pytest.raises(UserError, match=r"Two recipes are called 'trades': other_two.trades:Trades and poise_recipes"):
        registry.records("recipe")


def test_a_file_that_is_not_python_is_named_with_its_line(write: Write, registered: Register) -> None:
    write("broken_pkg/thing.py", "x = 1\nclass :\n")
    registered("broken_pkg")
    with pytest.raises(UserError, match=r"thing\.py:2: invalid syntax"):
        registry.records("recipe")


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UserError, match=r"no recipe called 'trade'. Did you mean 'trades'\?"):
        registry.find("recipe", "trade")


def test_build_checks_what_it_is_given() -> None:
    assert registry.build("recipe", "trades", beta=2.0).beta == 2.0
    with pytest.raises(UserError, match=r"trades has no parameter 'bta'. Did you mean 'beta'\?"):
        registry.build("recipe", "trades", bta=2.0)
    with pytest.raises(UserError, match="npz needs a value for path"):
        registry.build("data", "npz")


def test_build_supplies_only_what_is_taken(write: Write) -> None:
    write("nets.py", "def make(num_classes: int, width: int = 3) -> object:\n    return num_classes, width\n")
    assert registry.build("model", "nets:make", num_classes=4, input_shape=(1, 8, 8), width=5) == (4, 5)


def test_a_lambda_is_called_as_it_was_given(write: Write) -> None:
    write("nets.py", "make = lambda num_classes: num_classes\n")
    assert registry.resolve("model", "nets:make").qualified == "nets:make"
    assert registry.build("model", "nets:make", num_classes=4) == 4


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("not a name", "not of the form package.module:Class"),
        ("nowhere.at_all:Mine", "there is no module 'nowhere'"),
        ("own.wrong:Nothing", "own.wrong has no 'Nothing'"),
        ("own.wrong:Rong", r"has no 'Rong'. Did you mean 'Wrong'\?"),
        ("own.wrong:Wrong", "own.wrong:Wrong is not a recipe: it does not derive from Recipe"),
        ("own.wrong:function", "is not a recipe: it is a function"),
        ("own.wrong:Hooked", "a parameter called 'attack'"),
        ("own.fails:Mine", r"own.fails:Mine cannot be imported: .*fails.py:3: ZeroDivisionError: division by zero"),
        ("own.raises:Mine", r"own.raises:Mine cannot be imported: .*raises.py:1: ImportError: no driver"),
        ("own.syntax:Mine", r"syntax.py:2: "),
    ],
)
def test_a_users_own_that_cannot_be_used(write: Write, name: str, message: str) -> None:
    write(
        "own/wrong.py",
        """
        from poise.recipe import Recipe
        class Wrong: ...
        class Hooked(Recipe):
            def __init__(self, attack: int = 1): ...
        def function(): ...
        """,
    )
    write("own/fails.py", "from poise.recipe import Recipe\nnumber = 0\nclass Mine(Recipe): x = 1 / number\n")
    write("own/raises.py", 'raise ImportError("no driver")\n')
    write("own/syntax.py", "x = 1\nclass :\n")
    with pytest.raises(UserError, match=message):
        registry.resolve("recipe", name)


def test_what_cannot_be_read_is_imported_and_checked(write: Write) -> None:
    write(
        "dynamic.py",
        """
        from typing import Any
        import poise.recipe
        def made() -> Any:
            return poise.recipe.Recipe
        class Mine(made()):
            provides = frozenset(["x"] * 2)
            def __init__(self, size: int = int("3"), other=None, sizes: list[int] = [1]) -> None:
                super().__init__()
                self.size = size
            def mix(self, batch, step): return batch
        """,
    )
    record = registry.resolve("recipe", "dynamic:Mine")
    assert [(p.name, p.type, p.default) for p in record.parameters] == [
        ("size", int, 3),
        ("other", None, None),
        ("sizes", list[int], [1]),
    ]
    assert record.hooks == ("mix",)
    assert record.provides == frozenset({"x"})


def test_exports_of_a_lazy_package_are_read_from_its_stub(write: Write) -> None:
    write("lazy_pkg/__init__.py", "def __getattr__(name): raise AttributeError(name)")
    write("lazy_pkg/__init__.pyi", "from lazy_pkg.base import Base as Base\n")
    write("lazy_pkg/base.py", BASE)
    write("user_of_lazy.py", "from lazy_pkg import Base\nclass Mine(Base): ...\n")
    assert registry.resolve("recipe", "user_of_lazy:Mine").hooks == ("attack",)
    assert registry.resolve("recipe", "lazy_pkg:Base").qualified == "lazy_pkg.base:Base"


def test_the_working_directory_is_searched_last(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = tmp_path / "here"
    here.mkdir()
    text = "from poise.recipe import Recipe\nclass Mine(Recipe):\n    paper = '{}'\n"
    write("found_twice.py", text.format("searched"))
    (here / "found_twice.py").write_text(text.format("here"))
    (here / "only_here.py").write_text(text.format("here"))
    monkeypatch.chdir(here)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != ""])
    registry.refresh()
    for module, paper in (("found_twice", "searched"), ("only_here", "here")):
        record = registry.resolve("recipe", f"{module}:Mine")
        assert record.paper == paper == registry.load(record).paper


def test_dataclass_fields_are_parameters(write: Write) -> None:
    write(
        "fields.py",
        """
        from dataclasses import dataclass
        from typing import ClassVar
        from poise.data.source import DataSource
        @dataclass(frozen=True)
        class Mine(DataSource):
            kind: ClassVar[str] = "image"
            path: str
            share: float = 0.5
        """,
    )
    record = registry.resolve("data", "fields:Mine")
    assert [(p.name, p.type, p.default) for p in record.parameters] == [
        ("path", str, registry.REQUIRED),
        ("share", float, 0.5),
    ]
    assert record.attributes["kind"] == "image"


def test_name_of() -> None:
    trades = registry.build("recipe", "trades")
    assert registry.name_of(trades) == registry.name_of(type(trades)) == "trades"
    assert registry.name_of(registry.load(registry.find("schedule", "cosine"))) == "cosine"
    assert registry.name_of(Recipe) == "recipe"

    class Mine(Recipe): ...

    assert registry.name_of(Mine()) == "Mine"


def test_parameters_of_reads_arguments_back() -> None:
    assert registry.parameters_of(registry.build("recipe", "trades", beta=2.5)) == {"beta": 2.5, "label_on": "clean"}

    class Careless(Recipe):
        def __init__(self, gamma: float = 1.0) -> None:
            super().__init__()

    with pytest.raises(UserError, match=r"Careless does not keep its argument 'gamma': write self.gamma = gamma"):
        registry.parameters_of(Careless())


def test_data_may_be_made_by_a_users_function(write: Write) -> None:
    write(
        "makers.py",
        """
        from poise.data.source import DataSource
        def make(size: int = 3):
            source = DataSource()
            source.size = size
            return source
        def wrong():
            return 3
        """,
    )
    assert registry.build("data", "makers:make", size=4).size == 4
    with pytest.raises(UserError, match="makers:wrong makes an int, and data has to be a DataSource"):
        registry.build("data", "makers:wrong")


def test_what_a_config_says_of_every_model_is_no_parameter_of_one(write: Write) -> None:
    write("own_start.py", "def make(num_classes: int, checkpoint: str): ...\n")
    with pytest.raises(UserError, match="own_start:make has a parameter called 'checkpoint', which has a meaning"):
        registry.resolve("model", "own_start:make")


def test_a_model_may_be_any_class(write: Write) -> None:
    write(
        "own_net.py",
        """
        from torch import nn
        class Net(nn.Module):
            def __init__(self, num_classes: int, width: int = 4, device=None) -> None:
                super().__init__()
                self.width = width
        """,
    )
    record = registry.resolve("model", "own_net:Net")
    assert record.supplied == ("num_classes",)
    assert [(p.name, p.type) for p in record.parameters] == [("width", int), ("device", None)]

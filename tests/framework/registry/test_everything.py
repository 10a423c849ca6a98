"""Each record, read from source alone, against the object it describes."""

import inspect
from collections.abc import Iterator

import pytest

from poise import registry
from poise.registry.catalogue import _modules, read_file
from poise.registry.hooks import HOOKS, ONE_OWNER
from poise.registry.imported import parameters_of_object, record_of
from poise.registry.kinds import KINDS
from poise.registry.record import Record


def everything() -> Iterator[tuple[str, Record]]:
    for name, kind in KINDS.items():
        for module in _modules(kind):
            record = read_file(kind, module)
            if record is not None:
                yield name, record


ALL = [pytest.param(kind, record, id=f"{kind}-{record.name}") for kind, record in everything()]


def test_every_kind_has_something() -> None:
    assert {param.values[0] for param in ALL} == set(KINDS)


@pytest.mark.parametrize(("kind", "record"), ALL)
def test_a_record_is_its_object(kind: str, record: Record) -> None:
    loaded = registry.load(record)
    imported = record_of(KINDS[kind], record.name, loaded)
    assert record.parameters == imported.parameters
    assert record.supplied == imported.supplied
    assert record.hooks == imported.hooks
    assert record.doc == imported.doc == inspect.cleandoc(loaded.__doc__)
    assert registry.name_of(loaded) == record.name
    assert record.qualified == f"{loaded.__module__}:{loaded.__qualname__}"
    for name, value in record.attributes.items():
        if isinstance(inspect.getattr_static(loaded, name), property):
            continue
        assert getattr(loaded, name) == value


@pytest.mark.parametrize(("kind", "record"), ALL)
def test_names_that_have_a_meaning_are_no_parameters(kind: str, record: Record) -> None:
    assert not {p.name for p in record.parameters} & {*HOOKS, "name", *KINDS[kind].reserved}
    if kind == "data":
        assert not {p.name for p in record.parameters} & set(registry.records("wrapper"))


@pytest.mark.parametrize(("kind", "record"), ALL)
def test_one_public_class_of_its_kind_a_file(kind: str, record: Record) -> None:
    if not KINDS[kind].root:
        return
    loaded = registry.load(record)
    root = registry.load(Record(kind, "", KINDS[kind].root))
    module = inspect.getmodule(loaded)
    public = [
        name
        for name, found in vars(module).items()
        if inspect.isclass(found) and found.__module__ == loaded.__module__ and issubclass(found, root)
    ]
    assert [name for name in public if not name.startswith("_")] == [loaded.__name__]


METHODS = [p for p in ALL if p.values[1].qualified.startswith("poise_recipes.")]


@pytest.mark.parametrize(("kind", "record"), METHODS)
def test_methods_name_their_paper(kind: str, record: Record) -> None:
    assert record.paper
    assert all(p.type is not None for p in record.parameters)


@pytest.mark.parametrize(("kind", "record"), [p for p in ALL if p.values[0] == "recipe"])
def test_a_recipe_brings_what_exists(kind: str, record: Record) -> None:
    for name, params in record.brings.items():
        guest = registry.find("recipe", name)
        assert set(params) <= {p.name for p in guest.parameters}
        assert guest.hooks


def test_the_hooks_are_those_of_recipe() -> None:
    recipe = registry.load(Record("recipe", "recipe", KINDS["recipe"].root))
    own = {name for name, found in vars(recipe).items() if inspect.isfunction(found) and not name.startswith("_")}
    assert own == set(HOOKS)
    assert ONE_OWNER == (
        "head",
        "inner",
        "attack",
        "perturb_weights",
        "criterion",
        "objective",
        "eval_weights",
    )
    assert not list(parameters_of_object(recipe))

"""What the source itself promises: who knows whom, what is typed, what is exported."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import poise
import poise_recipes
from poise import registry
from written import hold

FRAMEWORK = Path(poise.__file__).parent
RECIPES = Path(poise_recipes.__file__).parent
FILES = sorted([*FRAMEWORK.rglob("*.py"), *RECIPES.rglob("*.py")])
NAMESAKES = {  # what else is called so, by the file that has to name it
    "corruptions.py": {"gaussian_noise"},  # of CIFAR-10-C
    "scores.py": {"mmce"},  # a word in the name of a metric
}
SHAPED = {"Float", "Int", "Shaped", "UInt8", "Num", "Bool"}


def built_in() -> set[str]:
    found = [r for kind in ("recipe", "calibrator") for r in registry.records(kind).values()]
    return {record.name for record in found if record.qualified.startswith("poise_recipes.")}


def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def docstrings(tree: ast.Module) -> set[int]:
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, documented) and node.body]
    return {id(body[0].value) for body in bodies if isinstance(body[0], ast.Expr)}


def recipes_named_in(path: Path, names: set[str]) -> Iterator[str]:
    tree = parsed(path)
    told, names = docstrings(tree), names - NAMESAKES.get(path.name, set())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import) and any(a.name.startswith("poise_recipes") for a in node.names):
            yield f"{path.name}:{node.lineno} imports the recipes"
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("poise_recipes"):
            yield f"{path.name}:{node.lineno} imports the recipes"
        if isinstance(node, ast.Constant) and id(node) not in told and node.value in names:
            yield f"{path.name}:{node.lineno} names {node.value}"


def test_the_core_knows_no_recipe_by_name() -> None:
    names = built_in()
    assert {"trades", "temperature_scaling"} <= names
    assert [found for path in FRAMEWORK.rglob("*.py") for found in recipes_named_in(path, names)] == []


def test_the_walk_finds_a_name_and_an_import(tmp_path: Path) -> None:
    guilty = tmp_path / "guilty.py"
    guilty.write_text('"""trades"""\nfrom poise_recipes import Trades\nif name == "trades":\n    pass\n')
    assert len(list(recipes_named_in(guilty, {"trades"}))) == 2


def bare_tensors(path: Path) -> Iterator[str]:
    """Public functions with an annotation `Tensor` that says no shape."""
    for owner, function in public_functions(parsed(path)):
        arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
        annotations = [a.annotation for a in arguments] + [function.returns]
        if any(bare(annotation) for annotation in annotations if annotation is not None):
            yield f"{path.name}:{function.lineno} {owner}{function.name}"


def public_functions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield "", node
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            methods = [item for item in node.body if isinstance(item, ast.FunctionDef)]
            yield from ((f"{node.name}.", m) for m in methods if not m.name.startswith("_"))


def bare(annotation: ast.expr) -> bool:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return bare(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.Subscript) and getattr(annotation.value, "id", "") in SHAPED:
        return False
    if isinstance(annotation, ast.Name):
        return annotation.id == "Tensor"
    return any(bare(child) for child in ast.iter_child_nodes(annotation) if isinstance(child, ast.expr))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_public_tensor_has_a_shape(path: Path) -> None:
    assert list(bare_tensors(path)) == []


def test_a_tensor_without_a_shape_is_found(tmp_path: Path) -> None:
    guilty = tmp_path / "guilty.py"
    guilty.write_text('def f(x: Tensor) -> Float[Tensor, "B"]: ...\ndef _g(x: Tensor): ...\n')
    assert list(bare_tensors(guilty)) == ["guilty.py:1 f"]


def exported(stub: Path) -> dict[str, str]:
    imports = [node for node in parsed(stub).body if isinstance(node, ast.ImportFrom)]
    return {alias.name: f"{node.module}:{alias.name}" for node in imports for alias in node.names}


def test_the_stub_of_the_recipes_is_the_registry() -> None:
    records = [r for kind in ("recipe", "calibrator") for r in registry.records(kind).values()]
    own = {r.qualified.rpartition(":")[2]: r.qualified for r in records if "poise_recipes." in r.qualified}
    own = {name: q for name, q in own.items() if q.startswith("poise_recipes.")}
    places = sorted(q.partition(":") for q in own.values())
    hold(RECIPES / "__init__.pyi", "".join(f"from {module} import {name} as {name}\n" for module, _, name in places))
    for name in own:
        assert getattr(poise_recipes, name).__name__ == name


def test_the_stub_of_the_framework_is_what_it_gives() -> None:
    names = exported(FRAMEWORK / "__init__.pyi")
    assert set(names) == set(poise._HOMES)
    for name, qualified in names.items():
        assert poise._HOMES[name] == qualified.partition(":")[0]
        assert getattr(poise, name).__name__ == name

"""Modules as text: found without importing anything, parsed once."""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path

from poise.errors import UserError


@dataclass(frozen=True)
class Module:
    """A parsed module.

    Args:
        name: "package.module".
        path: its file.
        tree: its syntax tree.
    """

    name: str
    path: Path
    tree: ast.Module

    @cached_property
    def classes(self) -> dict[str, ast.ClassDef]:
        """Top-level classes by name."""
        return {node.name: node for node in self.tree.body if isinstance(node, ast.ClassDef)}

    @cached_property
    def functions(self) -> dict[str, ast.FunctionDef]:
        """Top-level functions by name."""
        return {node.name: node for node in self.tree.body if isinstance(node, ast.FunctionDef)}

    @cached_property
    def imports(self) -> dict[str, str]:
        """Top-level imports, local name -> "module" or "module.name"."""
        found: dict[str, str] = {}
        for node in self.tree.body:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    found[alias.asname or alias.name.partition(".")[0]] = (
                        alias.name if alias.asname else alias.name.partition(".")[0]
                    )
            elif isinstance(node, ast.ImportFrom):
                origin = self._origin(node)
                for alias in node.names:
                    found[alias.asname or alias.name] = f"{origin}.{alias.name}"
        return found

    def surely_lacks(self, name: str) -> bool:
        """Whether the name occurs nowhere in the file, nothing in it could make one, and importing it says no more."""
        names = {node.id for node in ast.walk(self.tree) if isinstance(node, ast.Name)}
        makers = {"*", "__getattr__", "globals", "vars", "setattr", "exec", "eval"}
        words = {*names, *self.imports, *self.classes, *self.functions}
        raises = any(isinstance(node, ast.Raise) for node in self.tree.body)
        return name not in words and not makers & words and not raises

    def _origin(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self.name.split(".")
        up = node.level - (self.path.stem == "__init__")
        return ".".join([*parts[: len(parts) - up], *filter(None, [node.module])])

    @cached_property
    def stub(self) -> "Module | None":
        """The `.pyi` beside it: what a lazy module exports is written there."""
        path = self.path.with_suffix(".pyi")
        return Module(self.name, path, parsed(path)) if path.is_file() else None


def find_spec(name: str) -> ModuleSpec | None:
    """A module's spec, level by level, so that no parent is imported; the working directory comes last."""
    spec: ModuleSpec | None = None
    parent, _, _ = name.rpartition(".")
    if not parent:
        return _search(name, None) or PathFinder.find_spec(name, [str(Path.cwd())])
    above = find_spec(parent)
    if above is not None and above.submodule_search_locations is not None:
        spec = _search(name, list(above.submodule_search_locations))
    return spec


def _search(name: str, path: list[str] | None) -> ModuleSpec | None:
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, path) if hasattr(finder, "find_spec") else None
        except KeyError:  # a folder without __init__.py, below a package that is not imported
            spec = _namespace(name, path or [])
        if spec is not None:
            return spec
    return None


def _namespace(name: str, path: list[str]) -> ModuleSpec:
    spec = ModuleSpec(name, None, is_package=True)
    folders = (Path(entry) / name.rpartition(".")[2] for entry in path)
    spec.submodule_search_locations = [str(folder) for folder in folders if folder.is_dir()]
    return spec


@cache
def find_module(name: str) -> Module | None:
    """The module called `name`, parsed; None where there is none or it has no source."""
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    spec = find_spec(name)
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        return None
    path = Path(spec.origin)
    return Module(name, path, parsed(path))


@cache
def parsed(path: Path) -> ast.Module:
    """The syntax tree of a file.

    Raises:
        UserError: it is not Python.
    """
    try:
        return ast.parse(path.read_bytes(), filename=str(path))
    except SyntaxError as error:
        raise UserError(f"{path}:{error.lineno}: {error.msg}.") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from error


def modules_below(package: str) -> Iterator[Module]:
    """The public modules of a package and its sub-packages, in order of their names.

    Raises:
        UserError: there is no such package, or a file in it is not Python.
    """
    spec = find_spec(package)
    if spec is None or spec.submodule_search_locations is None:
        raise UserError(f"There is no package {package!r}.")
    for root in spec.submodule_search_locations:
        for path in sorted(Path(root).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            if all(part.isidentifier() and not part.startswith("_") for part in parts):
                name = ".".join([package, *parts])
                yield Module(name, path, parsed(path))


def follow(module: Module, name: str, depth: int = 0) -> tuple[Module, str] | None:
    """The module in which `name`, as `module` sees it, is defined at top level, and its name there.

    Args:
        module: where the name is used.
        name: a name, or attributes of one: "recipe.Recipe".
        depth: imports followed so far.
    """
    if name in module.classes or name in module.functions:
        return module, name
    head, _, tail = name.partition(".")
    for text in (module, module.stub):
        if text is not None and head in text.imports and depth < 20:
            return _at(text.imports[head] + (f".{tail}" if tail else ""), depth + 1)
    return None


def _at(path: str, depth: int) -> tuple[Module, str] | None:
    """What the longest importable beginning of "package.module.name" calls by the rest."""
    parts = path.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        module = find_module(".".join(parts[:cut]))
        if module is not None:
            return follow(module, ".".join(parts[cut:]), depth)
    return None


def forget() -> None:
    """Read every file anew from now on."""
    find_module.cache_clear()
    parsed.cache_clear()

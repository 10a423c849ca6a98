"""Records from source: what Python would say of a class or function, without running it."""

import ast
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from poise.registry.hooks import HOOKS
from poise.registry.kinds import ROOTS, Kind
from poise.registry.literals import UnreadableError, annotation, dotted, value
from poise.registry.record import REQUIRED, Parameter, Record
from poise.registry.source import Module, find_module, follow


@dataclass(frozen=True)
class Class:
    """A class in its module."""

    module: Module
    node: ast.ClassDef

    @property
    def qualified(self) -> str:
        """Where it is defined: "package.module:Class"."""
        return f"{self.module.name}:{self.node.name}"

    def method(self, name: str) -> ast.FunctionDef | None:
        """Its own method of that name."""
        methods = (node for node in self.node.body if isinstance(node, ast.FunctionDef))
        return next((node for node in methods if node.name == name), None)


def read_class(kind: Kind, name: str, module: Module, class_name: str) -> Record | None:
    """The record of a class; None where it surely is not of that kind.

    Raises:
        UnreadableError: its source does not say enough.
    """
    order = resolution_order(Class(module, module.classes[class_name]))
    if kind.root and not any(cls.qualified == kind.root for cls in order):
        return None
    own = [cls for cls in order if cls.qualified != kind.root]
    if not own:
        return None
    parameters = list(_constructor(order))
    return Record(
        kind=kind.name,
        name=name,
        qualified=own[0].qualified,
        parameters=tuple(p for p in parameters if p.name not in kind.supplied),
        doc=inspect.cleandoc(ast.get_docstring(own[0].node) or ""),
        hooks=tuple(hook for hook in HOOKS if any(cls.method(hook) for cls in own)) if kind.name == "recipe" else (),
        attributes=_attributes(order),
        supplied=tuple(p.name for p in parameters if p.name in kind.supplied),
    )


def read_function(kind: Kind, name: str, module: Module, function_name: str) -> Record:
    """The record of a function.

    Raises:
        UnreadableError: its signature does not say enough.
    """
    function = module.functions[function_name]
    supplied = [a.arg for a in (*function.args.args, *function.args.kwonlyargs) if a.arg in kind.supplied]
    return Record(
        kind=kind.name,
        name=name,
        qualified=f"{module.name}:{function_name}",
        parameters=tuple(_parameters(function.args, module, skip=supplied)),
        doc=inspect.cleandoc(ast.get_docstring(function) or ""),
        supplied=tuple(supplied),
    )


def resolution_order(cls: Class) -> list[Class]:
    """Python's method resolution order, as far as the root of a kind where a class derives from one.

    Raises:
        UnreadableError: a base that top-level imports do not lead to, or bases without a consistent order.
    """
    bases = [] if cls.qualified in ROOTS else [_base(cls.module, base) for base in cls.node.bases]
    found = [base for base in bases if base is not None]
    return [cls, *_merge([*(resolution_order(base) for base in found), found])]


def _base(module: Module, node: ast.expr) -> Class | None:
    name = dotted(node.value if isinstance(node, ast.Subscript) else node)
    if name == "object" or module.imports.get(name) in ("typing.Protocol", "typing.Generic", "abc.ABC"):
        return None
    place = follow(module, name)
    if place is None or place[1] not in place[0].classes:
        raise UnreadableError(f"the base {name!r} of a class in {module.path.name} is not found by its imports")
    return Class(place[0], place[0].classes[place[1]])


def _merge(orders: Sequence[list[Class]]) -> list[Class]:
    """C3: the first head that stands in no other order's tail, again and again."""
    waiting = [order for order in orders if order]
    if not waiting:
        return []
    for order in waiting:
        head = order[0].qualified
        if not any(cls.qualified == head for other in waiting for cls in other[1:]):
            rest = [other[1:] if other[0].qualified == head else other for other in waiting]
            return [order[0], *_merge(rest)]
    raise UnreadableError("the bases have no consistent order")


def _attributes(order: Sequence[Class]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for cls in reversed(order):
        for name, node, _ in _assignments(cls, class_variables=True):
            try:
                found[name] = value(node) if node is not None else None
            except UnreadableError as error:
                raise UnreadableError(f"{cls.node.name}.{name}: {error}") from error
        for name in [name for name in found if cls.method(name) is not None]:
            del found[name]  # a property decides it for each instance
    return found


def _assignments(cls: Class, class_variables: bool) -> Iterator[tuple[str, ast.expr | None, ast.expr | None]]:
    """Public names a class's body assigns, with value and annotation: its class variables, or its fields."""
    fields = _is_dataclass(cls)
    for node in cls.node.body:
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=node_value) if class_variables:
                if not name.startswith("_"):
                    yield name, node_value, None
            case ast.AnnAssign(target=ast.Name(id=name), annotation=hint, value=node_value):
                is_field = fields and "ClassVar" not in ast.unparse(hint)
                if is_field is class_variables or name.startswith("_"):
                    continue
                if not class_variables or node_value is not None:
                    yield name, node_value, hint


def _is_dataclass(cls: Class) -> bool:
    decorators = (d.func if isinstance(d, ast.Call) else d for d in cls.node.decorator_list)
    return any(cls.module.imports.get(ast.unparse(d)) == "dataclasses.dataclass" for d in decorators)


def _constructor(order: Sequence[Class]) -> Iterator[Parameter]:
    seen: set[str] = set()
    for place, cls in enumerate(order):
        if (init := cls.method("__init__")) is not None:
            for parameter in _parameters(init.args, cls.module, skip=[*seen, init.args.args[0].arg]):
                seen.add(parameter.name)
                yield parameter
            if init.args.kwarg is None:
                return
        elif _is_dataclass(cls):
            yield from _fields(order[place:])
            return


def _fields(order: Sequence[Class]) -> Iterator[Parameter]:
    """The fields of a dataclass and its bases, the bases' first."""
    found: dict[str, Parameter] = {}
    for cls in reversed(order):
        if _is_dataclass(cls):
            for name, default, hint in _assignments(cls, class_variables=False):
                assert hint is not None
                found[name] = _parameter(name, hint, default, cls.module)
    yield from found.values()


def _parameters(arguments: ast.arguments, module: Module, skip: Sequence[str]) -> Iterator[Parameter]:
    if arguments.vararg or arguments.posonlyargs:
        raise UnreadableError("a constructor takes its arguments by name")
    positional = arguments.args
    defaults: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults)) + list(arguments.defaults)
    pairs = [
        *zip(positional, defaults, strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ]
    for argument, default in pairs:
        if argument.arg not in skip:
            if argument.annotation is None:
                raise UnreadableError(f"the parameter {argument.arg!r} has no type")
            yield _parameter(argument.arg, argument.annotation, default, module)


def _parameter(name: str, hint: ast.expr, default: ast.expr | None, module: Module) -> Parameter:
    try:
        return Parameter(name, annotation(hint, module.imports), REQUIRED if default is None else value(default))
    except UnreadableError as error:
        raise UnreadableError(f"the parameter {name!r}: {error}") from error


def defined(qualified: str) -> tuple[Module, str] | None:
    """The module that defines "package.module:name", imports followed, and the name there."""
    module_name, _, name = qualified.partition(":")
    module = find_module(module_name)
    return None if module is None else follow(module, name)

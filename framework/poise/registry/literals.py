"""Values and types read from source without running it."""

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal

from poise.registry.bounds import BOUNDS

SCALARS: dict[str, type] = {"int": int, "float": float, "str": str, "bool": bool}
_LISTS = ("list", "tuple", "Sequence", "typing.Sequence", "collections.abc.Sequence")
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}


class UnreadableError(ValueError):
    """Source that says something which cannot be known without running it."""


def dotted(node: ast.expr) -> str:
    """`a.b.C` of a name or a chain of attributes.

    Raises:
        UnreadableError: another expression.
    """
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    raise UnreadableError(f"`{ast.unparse(node)}` is not a name")


def value(node: ast.expr) -> Any:
    """A literal, `frozenset({…})`, or arithmetic of numbers.

    Raises:
        UnreadableError: another expression.
    """
    match node:
        case ast.Constant(value=constant) if constant is None or isinstance(constant, bool | int | float | str):
            return constant
        case ast.List(elts=items):
            return [value(item) for item in items]
        case ast.Tuple(elts=items):
            return tuple(value(item) for item in items)
        case ast.Set(elts=items):
            return {value(item) for item in items}
        case ast.Dict(keys=keys, values=values) if all(key is not None for key in keys):
            pairs = zip(keys, values, strict=True)
            return {value(key): value(item) for key, item in pairs if key is not None}
        case ast.Call(func=ast.Name(id="frozenset"), args=[], keywords=[]):
            return frozenset()
        case ast.Call(func=ast.Name(id="frozenset"), args=[ast.Set() | ast.List() | ast.Tuple() as items], keywords=[]):
            return frozenset(value(items))
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _number(operand)
            return -number if isinstance(sign, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            try:
                return _ARITHMETIC[type(op)](_number(left), _number(right))
            except ArithmeticError as error:
                raise UnreadableError(f"`{ast.unparse(node)}`: {error}") from error
    raise UnreadableError(f"`{ast.unparse(node)}` is no literal")


def _number(node: ast.expr) -> int | float:
    found = value(node)
    if isinstance(found, bool) or not isinstance(found, int | float):
        raise UnreadableError(f"`{ast.unparse(node)}` is not a number")
    return found


def annotation(node: ast.expr, imported: Mapping[str, str]) -> Any:
    """The type an annotation names: numbers (bounded ones too), strings, booleans, None, Literal, lists, unions.

    Args:
        node: the annotation.
        imported: the module's imports, local name -> "module.name".

    Raises:
        UnreadableError: another type.
    """
    match node:
        case ast.Constant(value=None):
            return type(None)
        case ast.Constant(value=str(text)):
            return annotation(ast.parse(text, mode="eval").body, imported)
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            return annotation(left, imported) | annotation(right, imported)
        case ast.Name() | ast.Attribute():
            name = dotted(node)
            if name in SCALARS:
                return SCALARS[name]
        case ast.Subscript(value=generic, slice=inner):
            return _generic(_meant(generic, imported), inner, imported)
    raise UnreadableError(f"`{ast.unparse(node)}` is no number, string, boolean, None, Literal or list of those")


def _meant(node: ast.expr, imported: Mapping[str, str]) -> str:
    head, _, tail = dotted(node).partition(".")
    return imported.get(head, head) + (f".{tail}" if tail else "")


def _generic(name: str, inner: ast.expr, imported: Mapping[str, str]) -> Any:
    if name == "typing.Literal":
        choices = value(inner)
        return Literal[choices if isinstance(choices, tuple) else (choices,)]
    if name == "typing.Annotated" and isinstance(inner, ast.Tuple):
        bounds = tuple(_bound(node, imported) for node in inner.elts[1:])
        return Annotated[annotation(inner.elts[0], imported), *bounds]
    if name == "typing.Optional":
        return annotation(inner, imported) | None
    if name in _LISTS:
        if isinstance(inner, ast.Tuple):
            match inner.elts:
                case [item, ast.Constant(value=ellipsis)] if name == "tuple" and ellipsis is Ellipsis:
                    inner = item
                case _:
                    raise UnreadableError(f"`{name}[{ast.unparse(inner)}]` has a fixed length")
        item_type = annotation(inner, imported)
        return tuple[item_type, ...] if name == "tuple" else list[item_type]  # type: ignore[valid-type]
    raise UnreadableError(f"`{name}[…]` is not Literal, list or Annotated")


def _bound(node: ast.expr, imported: Mapping[str, str]) -> Any:
    """`Ge(0)`, `Gt(0)`, `Le(1)` or `Lt(1)` of annotated_types."""
    match node:
        case ast.Call(func=function, args=[limit], keywords=[]):
            module, _, name = _meant(function, imported).rpartition(".")
            if module == "annotated_types" and name in BOUNDS:
                return BOUNDS[name](_number(limit))
    raise UnreadableError(f"`{ast.unparse(node)}` is no bound of annotated_types: Ge, Gt, Le, Lt")

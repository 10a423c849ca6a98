"""Records from imported objects: for a user's own class whose source cannot be read without running it."""

import importlib
import inspect
import os
import sys
import traceback
import types
import typing
from collections.abc import Iterator
from typing import Any

from poise.errors import UserError, nearest, one
from poise.registry.bounds import unbound
from poise.registry.hooks import HOOKS
from poise.registry.kinds import Kind, WrongKindError
from poise.registry.literals import SCALARS
from poise.registry.record import REQUIRED, UNWRITABLE, Parameter, Record


def import_object(qualified: str) -> Any:
    """The object "package.module:name" stands for; the working directory is searched last.

    Raises:
        UserError: no such module or name, or a module that fails as it is imported: its own error and line.
    """
    module_name, _, attribute = qualified.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name == error.name or module_name.startswith(f"{error.name}.")):
            raise UserError(
                f"{qualified}: there is no module {error.name!r} on PYTHONPATH or in the working directory."
            ) from error
        raise _failed(qualified, error) from error
    except Exception as error:
        raise _failed(qualified, error) from error
    if not hasattr(module, attribute):
        public = [name for name in vars(module) if not name.startswith("_")]
        raise UserError(f"{qualified}: {module_name} has no {attribute!r}.{nearest(attribute, public)}")
    return getattr(module, attribute)


def _failed(qualified: str, error: Exception) -> UserError:
    """The module's own error and line, without the import machinery's."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if not f.filename.startswith("<frozen")]
    where = f"{frames[-1].filename}:{frames[-1].lineno}" if len(frames) > 1 else qualified
    if isinstance(error, SyntaxError):
        where = f"{error.filename}:{error.lineno}"
    return UserError(f"{qualified} cannot be imported: {where}: {type(error).__name__}: {error}")


def record_of(kind: Kind, name: str, obj: Any) -> Record:
    """The record of an imported class or function.

    Raises:
        UserError: it is not of that kind.
    """
    root = import_object(kind.root) if kind.root else None
    made = kind.makers and inspect.isfunction(obj)
    if root is not None and not made and not (isinstance(obj, type) and issubclass(obj, root)):
        raise WrongKindError(f"{name} is not {one(kind.name)}: it does not derive from {root.__name__}.")
    if not callable(obj):
        raise WrongKindError(
            f"{name} is not {one(kind.name)}: it is {one(type(obj).__name__)}, which cannot be called."
        )
    parameters = tuple(parameters_of_object(obj))
    own = getattr(obj, "__qualname__", "<")
    return Record(
        kind=kind.name,
        name=name,
        qualified=name if "<" in own else f"{obj.__module__}:{own}",  # a lambda knows no name of its own
        parameters=tuple(p for p in parameters if p.name not in kind.supplied),
        doc=inspect.cleandoc(obj.__doc__ or ""),
        hooks=_hooks(obj, root) if kind.name == "recipe" else (),
        attributes=_attributes(obj, root) if isinstance(obj, type) else {},
        supplied=tuple(p.name for p in parameters if p.name in kind.supplied),
    )


def parameters_of_object(obj: Any) -> Iterator[Parameter]:
    """The arguments of a function, or of a class's constructor; `**kwargs` adds those of the next one's."""
    seen: set[str] = set()
    for function in _constructors(obj) if isinstance(obj, type) else [obj]:
        hints = _hints(function)
        passes_on = False
        for p in list(inspect.signature(function).parameters.values())[isinstance(obj, type) :]:
            passes_on |= p.kind is p.VAR_KEYWORD
            if p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) or p.name in seen:
                continue
            seen.add(p.name)
            yield _parameter(p, hints.get(p.name))
        if not passes_on:
            return


def _constructors(cls: type) -> Iterator[Any]:
    for base in cls.__mro__:
        if "__init__" in vars(base) and base is not object and not base.__module__.startswith("torch."):
            yield vars(base)["__init__"]


def _hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function, include_extras=True)
    except (NameError, TypeError, AttributeError):
        return {}


def _parameter(p: inspect.Parameter, hint: Any) -> Parameter:
    default = REQUIRED if p.default is p.empty else p.default if _plain(p.default) else UNWRITABLE
    if hint is None and isinstance(default, bool | int | float | str):
        hint = type(default)
    return Parameter(p.name, hint if readable(hint) else None, default)


def _plain(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_plain, value))
    return value is None or isinstance(value, bool | int | float | str)


def readable(hint: Any) -> bool:
    """Whether values of a type can be read from text and written down."""
    hint, _ = unbound(hint)
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return all(map(readable, typing.get_args(hint)))
    if origin in (list, tuple):
        inner = [item for item in typing.get_args(hint) if item is not Ellipsis]
        return len(inner) == 1 and readable(inner[0])
    return origin is typing.Literal or hint is type(None) or hint in SCALARS.values()


def _attributes(cls: type, root: type | None) -> dict[str, Any]:
    """Public literal attributes, from the root of its kind down to the class."""
    found: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        if root is None or issubclass(base, root):
            found |= {n: v for n, v in vars(base).items() if not n.startswith("_") and _literal(v)}
            for name in [name for name in found if isinstance(vars(base).get(name), property)]:
                del found[name]  # decided for each instance
    return found


def _literal(value: Any) -> bool:
    if isinstance(value, frozenset | set):
        return all(map(_plain, value))
    return _plain(value) or (isinstance(value, dict) and all(_plain(v) or _literal(v) for v in value.values()))


def _hooks(cls: type, root: type | None) -> tuple[str, ...]:
    return tuple(hook for hook in HOOKS if getattr(cls, hook) is not getattr(root, hook))

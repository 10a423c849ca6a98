"""What exists: records by kind and name, and the objects they stand for."""

import inspect
import re
from collections.abc import Iterator, Mapping
from functools import cache, partial
from importlib.metadata import entry_points
from typing import Any

from poise.errors import UserError, nearest, one
from poise.registry.hooks import HOOKS
from poise.registry.imported import import_object, parameters_of_object, record_of
from poise.registry.kinds import KINDS, Kind, WrongKindError
from poise.registry.literals import UnreadableError
from poise.registry.reader import defined, read_class, read_function
from poise.registry.record import Record
from poise.registry.source import Module, find_module, forget, modules_below

OWN = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")
_RESERVED = frozenset({*HOOKS, "name"})


@cache
def records(kind: str) -> Mapping[str, Record]:
    """Everything of a kind that has a name, by name, in alphabetical order.

    Raises:
        UserError: two things of one name, or a file that is not Python.
    """
    found: dict[str, Record] = {}
    for module in _modules(KINDS[kind]):
        record = _in_its_file(KINDS[kind], module)
        if record is None:
            continue
        if record.name in found:
            both = f"{found[record.name].qualified} and {record.qualified}"
            raise UserError(f"Two {KINDS[kind].plural} are called {record.name!r}: {both}. Rename or uninstall one.")
        found[record.name] = record
    return dict(sorted(found.items()))


def refresh() -> None:
    """Look again at what exists, after a file or a package was added."""
    records.cache_clear()
    resolve.cache_clear()
    _installed.cache_clear()
    forget()


def named(kind: str, name: str) -> Record | None:
    """The record of a registered name, or of one with what its first parameter takes: `timm/resnet18`."""
    outer, slash, rest = name.partition("/")
    record = records(kind).get(outer)
    if record is None or not slash:
        return record
    return record.within(rest) if record.space and rest else None


def find(kind: str, name: str) -> Record:
    """The record of that name, or of a user's own "package.module:Class".

    Raises:
        UserError: there is none; with the nearest name.
    """
    if ":" in name:
        return resolve(kind, name)
    record = named(kind, name)
    if record is None:
        plural = KINDS[kind].plural
        raise UserError(
            f"There is no {kind} called {name!r}.{nearest(name.partition('/')[0], records(kind))} "
            f"`poise list {plural}` shows all; one of your own is written package.module:Class."
        )
    return record


@cache
def resolve(kind: str, qualified: str) -> Record:
    """The record of a user's own class or function, from its source, or imported where that says too little.

    Raises:
        UserError: not found, fails to import, of another kind, or with a parameter called like a hook.
    """
    if not OWN.fullmatch(qualified):
        raise UserError(f"{qualified!r} is not of the form package.module:Class.")
    try:
        record = _from_source(KINDS[kind], qualified)
    except UnreadableError:
        record = record_of(KINDS[kind], qualified, import_object(qualified))
    for parameter in record.parameters:
        if parameter.name in {*_RESERVED, *KINDS[kind].reserved}:
            raise UserError(f"{qualified} has a parameter called {parameter.name!r}, which has a meaning of its own.")
    return record


def load(record: Record) -> Any:
    """The class or function a record describes, imported.

    Raises:
        UserError: its module does not import.
    """
    found = import_object(record.qualified)
    return partial(found, **record.bound) if record.bound else found


def build(kind: str, name: str, /, **params: Any) -> Any:
    """An object of a kind by its name, from the parameters given and what the framework supplies.

    Raises:
        UserError: there is no such thing, or it takes no such parameter.
    """
    record = find(kind, name)
    known = [p.name for p in record.parameters]
    given = {key: value for key, value in params.items() if key not in KINDS[kind].supplied or key in record.supplied}
    for key in given:
        if key not in known and key not in record.supplied:
            raise UserError(
                f"{name} has no parameter {key!r}.{nearest(key, known)} It has {', '.join(known) or 'none'}."
            )
    if missing := [p.name for p in record.parameters if p.required and p.name not in given]:
        raise UserError(f"{name} needs a value for {' and '.join(missing)}.")
    maker = load(record)
    try:
        built = maker(**given)
    except UserError:
        raise
    except ValueError as error:  # what a constructor says of an argument
        raise UserError(f"{kind} {record.address}: {error}") from error
    root = import_object(KINDS[kind].root) if KINDS[kind].root else object
    if not isinstance(built, root):
        raise WrongKindError(f"{name} makes {one(type(built).__name__)}, and {kind} has to be {one(root.__name__)}.")
    return built


def name_of(thing: Any) -> str:
    """The name of a class, function or instance: its file's, where that is its own but for case and `_`."""
    named = thing if isinstance(thing, type) or inspect.isfunction(thing) else type(thing)
    file_name = named.__module__.rpartition(".")[2]
    return file_name if _bare(file_name) == _bare(named.__name__) else named.__name__


def parameters_of(instance: Any) -> dict[str, Any]:
    """The constructor's arguments, read back from the attributes of the same names.

    Raises:
        UserError: an argument that was not kept.
    """
    found: dict[str, Any] = {}
    for parameter in parameters_of_object(type(instance)):
        if not hasattr(instance, parameter.name):
            cls = type(instance).__name__
            raise UserError(
                f"{cls} does not keep its argument {parameter.name!r}: write self.{parameter.name} = "
                f"{parameter.name} in {cls}.__init__, so that a run can be written down."
            )
        found[parameter.name] = getattr(instance, parameter.name)
    return found


def _modules(kind: Kind) -> Iterator[Module]:
    packages = {entry.value for entry in _installed().select(group=kind.group)}
    for package in [*filter(None, [kind.folder]), *sorted(packages)]:
        yield from modules_below(package)


@cache
def _installed() -> Any:
    """The entry points of everything installed, read once: it takes as long as all else."""
    return entry_points()


def _in_its_file(kind: Kind, module: Module) -> Record | None:
    """The record of the one public class or function that a file is named after, if it is of that kind."""
    name = module.name.rpartition(".")[2]
    try:
        return read_file(kind, module)
    except UnreadableError:
        class_name = next(found for found in module.classes if _bare(found) == _bare(name))
        obj = import_object(f"{module.name}:{class_name}")
        root = import_object(kind.root)
        return record_of(kind, name, obj) if issubclass(obj, root) else None


def read_file(kind: Kind, module: Module) -> Record | None:
    """The record of what a file is named after, from its source alone; None where that is not of this kind.

    Raises:
        UnreadableError: its source does not say enough.
    """
    name = module.name.rpartition(".")[2]
    if kind.function:
        function = module.functions.get(name)
        first = function.args.args[0].arg if function is not None and function.args.args else ""
        return read_function(kind, name, module, name) if first == kind.supplied[0] else None
    for class_name in module.classes:
        if _bare(class_name) == _bare(name):
            return read_class(kind, name, module, class_name)
    return None


def _from_source(kind: Kind, qualified: str) -> Record:
    place = defined(qualified)
    if place is None:
        _refuse_missing(qualified)
        raise UnreadableError(f"{qualified} is not found in a source file")
    module, name = place
    if name in module.functions:
        if kind.root and not kind.makers:
            raise WrongKindError(f"{qualified} is not {one(kind.name)}: it is a function.")
        return read_function(kind, qualified, module, name)
    record = read_class(kind, qualified, module, name)
    if record is None:
        raise WrongKindError(
            f"{qualified} is not {one(kind.name)}: it does not derive from {kind.root.rpartition(':')[2]}."
        )
    return record


def _refuse_missing(qualified: str) -> None:
    module_name, _, name = qualified.partition(":")
    module = find_module(module_name)
    if module is not None and module.surely_lacks(name):
        known = [word for word in (*module.classes, *module.functions) if not word.startswith("_")]
        raise UserError(f"{qualified}: {module_name} has no {name!r}.{nearest(name, known)}")


def _bare(name: str) -> str:
    return name.replace("_", "").lower()

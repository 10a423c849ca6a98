"""What the user gave, by path, before it has types; and every mistake found on the way."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, get_type_hints

from poise.config.errors import ConfigErrors
from poise.config.layers import Layer, by_alias, items, shown, typed
from poise.config.schema import DEFAULT_NAMES, LISTS, NAMED, TOP
from poise.config.values import convert, expected, words
from poise.errors import nearest, nearest_path
from poise.registry import REQUIRED, UNWRITABLE, Record


class _Broken:
    """Stands for a value that is a mistake already, so that nobody complains of it again."""

    def __repr__(self) -> str:
        return "${…}"


NOTHING = ("null", "~", "nil")  # of other languages

BROKEN: Any = _Broken()


@dataclass(frozen=True)
class Given:
    """A value, the layer it comes from, and where that is.

    Args:
        value: as it was given.
        level: of the layer, from 1; 0 is the default.
        source: for messages; "" is the command line or Python.
        origin: for who asks what a value comes from.
        preset: whether a preset gave it.
    """

    value: Any
    level: int
    source: str
    origin: str = "default"
    preset: bool = False

    @property
    def where(self) -> str:
        """For the end of a message."""
        return f" (in {self.source})" if self.source else ""


class Draft:
    """The layers on top of each other. Readers take values out; what is left over at the end is a mistake."""

    def __init__(self) -> None:
        self.mistakes: list[str] = []
        self.origins: dict[str, str] = {}  # of each value that was read, by path; what is not here is a default
        self.written: dict[str, str] = {}  # lists of names as they were given, by group
        self.unresolved: set[str] = set()  # groups that name something which is not there
        self._given: dict[str, Given] = {}
        self._levels = 0

    def add(self, layer: Layer) -> None:
        """Put a layer on top. A thing that is newly named starts from its own defaults."""
        self._levels += 1
        preset = layer.kind == "preset"
        new = {
            path: Given(value, self._levels, layer.source, layer.origins.get(path, layer.origin), preset)
            for path, value in layer.values.items()
        }
        for group in NAMED:
            if (named := new.get(f"{group}.name")) is not None:
                before = self._given.get(f"{group}.name")
                self._forget(group, DEFAULT_NAMES.get(group) if before is None else before.value, named.value)
        self._given |= new

    def _forget(self, group: str, old: Any, new: Any) -> None:
        """Drop what lower layers said of things that are no longer named.

        What presets say of recipes stays: they are there because the list that counts names them.
        """
        if group in LISTS:
            was, now = by_alias(old), by_alias(new)
            gone = [f"{group}.{alias}." for alias, name in was.items() if now.get(alias, name) != name]
            if group == "data" and items(old)[:1] != items(new)[:1]:
                gone += [path for path in self.below(group) if path.count(".") == 1]
        else:
            gone = [f"{group}."] if old != new else []
        for path in self.below(group):
            of_preset = group == "recipe" and self._given[path].preset
            if any(path.startswith(prefix) for prefix in gone) and not of_preset:
                del self._given[path]

    def mistake(self, text: str) -> None:
        """Remember a mistake, once."""
        if text not in self.mistakes:
            self.mistakes.append(text)

    def level(self, path: str) -> int:
        """The layer that gave a path, from 1; 0 where none did."""
        return self._given[path].level if path in self._given else 0

    def take(self, path: str) -> Given | None:
        """A value, which is then read."""
        given = self._given.pop(path, None)
        if given is not None:
            self.origins[path] = given.origin
        return given

    def value(self, path: str, hint: Any, default: Any) -> Any:
        """A value of a type, or the default where none is given or what is given is a mistake."""
        given = self.take(path)
        if given is None or given.value is BROKEN:
            return default
        try:
            return convert(given.value, hint)
        except ValueError as error:
            self.mistake(
                f"{typed(path)}={shown(given.value)}{given.where} {error}.{_nearest_choice(given.value, hint)}"
            )
            return default

    def setting(self, path: str, hint: Any, default: Any) -> Any:
        """A value of the schema's own, where an empty text means nothing."""
        given = self._given[path]
        if given.value != "":
            return self.value(path, hint, default)
        self.take(path)
        self.mistake(f"{typed(path)}={given.where} is empty: give a value, or leave it out.")
        return default

    def fields(self, cls: type, group: str = "", only: Sequence[str] = ()) -> dict[str, Any]:
        """Those fields of a dataclass that are given as `group.field`, by name."""
        hints = get_type_hints(cls, include_extras=True)
        found = {}
        for item in fields(cls):
            path = f"{group}.{item.name}" if group else item.name
            if path in self._given and (not only or item.name in only):
                found[item.name] = self.setting(path, hints[item.name], item.default)
        return found

    def parameters(self, prefix: str, record: Record, brought_with: Mapping[str, Any]) -> dict[str, Any]:
        """All parameters of a thing, from `prefix.parameter`, else from `brought_with`, else its own defaults."""
        self._take_empty(prefix)
        found: dict[str, Any] = {}
        for parameter in record.parameters:
            path = f"{prefix}.{parameter.name}"
            default = brought_with.get(parameter.name, parameter.default)
            if parameter.type is None:
                if self.take(path) is not None or parameter.required:
                    self.mistake(
                        f"{path}: {record.address} gives this parameter no type that text can be read by. "
                        "Annotate it as int, float, str, bool, Literal or a list of those."
                    )
            elif path in self._given:
                value = self.value(path, parameter.type, default)
                if value is not REQUIRED and value is not UNWRITABLE:  # as they are where what is given is a mistake
                    found[parameter.name] = value
            elif parameter.required and parameter.name not in brought_with:
                way_out = f" Write {prefix}={record.name}/<{parameter.name}>." if parameter is record.space else ""
                self.mistake(f"{path} is missing: {record.address} needs it ({expected(parameter.type)}).{way_out}")
            elif default is not UNWRITABLE:
                found[parameter.name] = _own(default, parameter.type)
        return found

    def below(self, prefix: str) -> list[str]:
        """The paths below a prefix that nobody has read."""
        return [path for path in self._given if path.startswith(f"{prefix}.")]

    def refuse_unknown(self, prefix: str, what: str, known: Sequence[str]) -> None:
        """Whatever is left below a prefix is a mistake: `what` has no such parameter."""
        self._take_empty(prefix)
        for path in self.below(prefix):
            given, key = self._given.pop(path), path.removeprefix(f"{prefix}.")
            has = f" It has {', '.join(known)}." if known else " It has none."
            self.mistake(
                f"{shown(path)}{given.where}: {what} has no parameter {shown(key)!r}.{nearest(key, known) or has}"
            )

    def ignore(self, prefix: str, below_level: int | None = None) -> None:
        """Read and forget what is below a prefix: all, or what layers under `below_level` gave."""
        for path in [prefix, *self.below(prefix)]:
            given = self._given.get(path)
            if given is not None and (below_level is None or given.level < below_level):
                del self._given[path]

    def refuse_rest(self, known: Sequence[str]) -> None:
        """Whatever nobody has read is a mistake: there is no such thing to set."""
        for path, given in self._given.items():
            if path in TOP:
                if given.value != {}:
                    self.mistake(f"{path}={shown(given.value)}{given.where}: {path} is a group. Set what is in it.")
                continue
            alike = [other for other in known if other.rpartition(".")[2] == path]
            hint = f" Did you mean {alike[0]!r}?" if alike else nearest_path(path, [*known, *TOP])
            self.mistake(f"There is nothing called {shown(path)!r} to set{given.where}.{hint}")
        self._given.clear()

    def finish(self) -> None:
        """Raise all mistakes together."""
        if self.mistakes:
            raise ConfigErrors(self.mistakes)

    def _take_empty(self, path: str) -> None:
        if path in self._given and self._given[path].value == {}:
            del self._given[path]


def _own(default: Any, hint: Any) -> Any:
    """A constructor's default in its parameter's type: 6 becomes 6.0 where a float is meant."""
    try:
        return default if isinstance(default, str) else convert(default, hint)
    except ValueError:
        return default


def _nearest_choice(value: Any, hint: Any) -> str:
    if not isinstance(value, str):
        return ""
    choices = list(words(hint))
    wrong = next((item for item in value.split(",") if item not in choices), value)
    return nearest("none" if wrong.lower() in NOTHING else wrong, choices)

"""What a predictor says of itself, written as JSON, and read as if somebody else had written it."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, asdict, dataclass, fields
from pathlib import Path
from typing import Any

from poise.errors import UserError, nearest

FORMAT = 1
ALWAYS = ("format", "sha256")  # what is written of every predictor, beside what has no default
LARGEST = 2**26  # numbers of one input: more than any picture has
LONGEST = 2**24  # bytes of the file

Described = Mapping[str, Any]


@dataclass(frozen=True)
class Card:
    """What a predictor says of itself, in `predictor.json`.

    Args:
        input_shape: of one example.
        class_names: C names.
        valid_range: of inputs; None where there is none.
        model: name and parameters of a registered model, a `module:make`, or None for somebody's own object.
        head: name and parameters of the recipe that made the head; None for the model's own.
        linear_head: whether the head is one linear layer, whatever made it.
        calibrator: name and parameters; None without one.
        format: of the file.
        sha256: of the weights beside it; "" before they are written.
    """

    input_shape: Sequence[int]
    class_names: Sequence[str]
    valid_range: tuple[float, float] | None
    model: Described | None = None
    head: Described | None = None
    linear_head: bool = False
    calibrator: Described | None = None
    format: int = FORMAT
    sha256: str = ""

    def text(self) -> str:
        """As it is written."""
        return json.dumps(asdict(self), indent=2) + "\n"


def read_card(path: Path) -> Card:
    """The card in a file, all of it checked but what only the registry and the weights can tell.

    Raises:
        UserError: no such file, no JSON, another format, or a field that is not there, not known or not of its kind.
    """
    return checked_card(path, _facts(path))


def checked_card(path: str | Path, facts: Any) -> Card:
    """A card from what is written of it.

    Args:
        path: where, for messages.
        facts: as JSON has them.

    Raises:
        UserError: another format, or a field that is not there, not known or not of its kind.
    """
    if not isinstance(facts, dict):
        raise _wrong(path, "it is not a mapping")
    if _is_count(facts.get("format")) and facts["format"] > FORMAT:
        raise UserError(f"{path} has format {_shown(facts['format'])}, this poise reads up to {FORMAT}: update poise.")
    known = {item.name: item.default for item in fields(Card)}
    for name in facts:
        if name not in known:
            raise _wrong(path, f"{_shown(name)} is nothing it says.{nearest(name, known)}")
    for name, default in known.items():
        if name not in facts and (default is MISSING or name in ALWAYS):
            raise _wrong(path, f"{name} is missing")
    for name, value in facts.items():
        if (wanted := _FIELDS[name](value)) is not None:
            raise _wrong(path, f"{name} has to be {wanted}, not {_shown(value)}")
    if facts.get("linear_head") and facts.get("head"):
        raise _wrong(path, "head and linear_head are two heads")
    valid_range = facts["valid_range"]
    return Card(**{**facts, "valid_range": None if valid_range is None else tuple(valid_range)})


def _facts(path: Path) -> Any:
    try:
        if path.stat().st_size > LONGEST:
            raise _wrong(path, f"it has more than {LONGEST} bytes")
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse_constant)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from error
    except RecursionError as error:
        raise _wrong(path, "it is nested too deeply") from error
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise _wrong(path, str(error)) from error


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no number of JSON")


def _wrong(path: str | Path, what: str) -> UserError:
    return UserError(f"{path} is not a predictor's description: {what}.")


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _shape(value: Any) -> str | None:
    fits = isinstance(value, list) and 1 <= len(value) <= 8 and all(map(_is_count, value))
    return None if fits and math.prod(value) <= LARGEST else f"the sizes of an input of at most {LARGEST} numbers"


def _names(value: Any) -> str | None:
    fits = isinstance(value, list) and value and all(isinstance(name, str) and name for name in value)
    return None if fits and len(set(value)) == len(value) else "a list of different names"


def _range(value: Any) -> str | None:
    if value is None:
        return None
    numbers = isinstance(value, list) and [type(item) for item in value if type(item) in (int, float)]
    fits = numbers and len(numbers) == len(value) == 2 and all(abs(item) < 1e30 for item in value)
    return None if fits and value[0] < value[1] else "a lower and a higher number"


def _thing(value: Any) -> str | None:
    fits = isinstance(value, dict) and set(value) == {"name", "parameters"} and isinstance(value["name"], str)
    fits = fits and len(value["name"]) <= 200 and isinstance(value["parameters"], dict)
    return None if value is None or fits else "a name and parameters"


def _flag(value: Any) -> str | None:
    return None if isinstance(value, bool) else "true or false"


def _format(value: Any) -> str | None:
    return None if _is_count(value) else f"{FORMAT}"


def _digest(value: Any) -> str | None:
    fits = isinstance(value, str) and len(value) == 64 and set(value) <= set("0123456789abcdef")
    return None if fits else "64 of 0-9 and a-f"


_FIELDS: dict[str, Callable[[Any], str | None]] = {
    "input_shape": _shape,
    "class_names": _names,
    "valid_range": _range,
    "model": _thing,
    "head": _thing,
    "linear_head": _flag,
    "calibrator": _thing,
    "format": _format,
    "sha256": _digest,
}

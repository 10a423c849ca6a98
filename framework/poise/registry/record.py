"""What the registry knows of a thing with a name."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from poise.errors import UserError
from poise.registry.kinds import KINDS


class _Missing:
    """Stands where there is no default, or none that can be written down."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


CAPABILITIES = ("provides", "needs", "after", "conflicts", "accepts", "per_rank")

REQUIRED: Any = _Missing("REQUIRED")
UNWRITABLE: Any = _Missing("UNWRITABLE")


@dataclass(frozen=True)
class Parameter:
    """One argument of a constructor.

    Args:
        name: the argument's.
        type: `int`, `list[float]`, `Literal["a", "b"] | None` …; None where a user's own object has none that
            text can be read by.
        default: a literal; REQUIRED where there is none; UNWRITABLE where it is no literal.
    """

    name: str
    type: Any
    default: Any = REQUIRED

    @property
    def required(self) -> bool:
        """Whether it has to be given."""
        return self.default is REQUIRED


@dataclass(frozen=True)
class Record:
    """A recipe, calibrator, data source, model … as its source describes it.

    Args:
        kind: 'recipe', 'model' …
        name: the file's name; of a user's own object, as the user wrote it: "package.module:Class".
        qualified: "package.module:Class", where it is defined.
        parameters: the constructor's arguments that a config may set.
        doc: docstring.
        hooks: of a recipe: those that the class, or a base below Recipe, has of its own; in a step's order.
        attributes: class attributes with literal values, inherited ones included.
        supplied: arguments that the framework gives (a model's `num_classes`), as far as it takes them.
        bound: arguments that the name gives: of `timm/resnet18` the architecture.
    """

    kind: str
    name: str
    qualified: str
    parameters: tuple[Parameter, ...] = ()
    doc: str = ""
    hooks: tuple[str, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    supplied: tuple[str, ...] = ()
    bound: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in CAPABILITIES:
            if name in self.attributes:
                check_names(self.address, name, self.attributes[name])

    @property
    def address(self) -> str:
        """What its parameters are addressed by where nothing else is said."""
        return self.name.rpartition(":")[2]

    @property
    def paper(self) -> str:
        """Authors, title, year, arXiv id; "" where there is none."""
        return str(self.attributes.get("paper", ""))

    @property
    def provides(self) -> frozenset[str]:
        """Capabilities it provides."""
        return frozenset(self.attributes.get("provides", ()))

    @property
    def needs(self) -> frozenset[str]:
        """Capabilities it cannot do without."""
        return frozenset(self.attributes.get("needs", ()))

    @property
    def brings(self) -> Mapping[str, Mapping[str, Any]]:
        """Members it adds, by name with their parameters, for one-owner hooks that nobody owns."""
        found: Mapping[str, Mapping[str, Any]] = self.attributes.get("brings", {})
        return found

    @property
    def space(self) -> Parameter | None:
        """The parameter that takes what follows a slash in the name, where the kind has such names."""
        first = next(iter(self.parameters), None)
        spacious = KINDS[self.kind].spaces and first is not None and first.required and first.type is str
        return first if spacious else None

    def within(self, rest: str) -> "Record":
        """The record of `name/rest`, whose first parameter is given by its name."""
        first, *others = self.parameters
        return replace(self, name=f"{self.name}/{rest}", parameters=tuple(others), bound={first.name: rest})

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name, or None."""
        return next((p for p in self.parameters if p.name == name), None)


def check_names(owner: str, name: str, value: Any) -> None:
    """Refuse a class attribute that is no set of names.

    Raises:
        UserError: a string, a list …; with what to write.
    """
    if not isinstance(value, frozenset | set) or not all(isinstance(item, str) for item in value):
        raise UserError(f"{owner}.{name} = {value!r}: it has to be a set of names, such as frozenset({{'attack'}}).")

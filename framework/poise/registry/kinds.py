"""The kinds of things that have a name, and where each kind lives."""

from dataclasses import dataclass

from poise.errors import UserError

RECIPES_GROUP = "poise.recipes"


SHAPE = ("num_classes", "input_shape")


@dataclass(frozen=True)
class Kind:
    """One kind of thing.

    Args:
        name: 'recipe' …, as in code and config.
        plural: as in `poise list recipes`.
        root: "module:Class" that its classes derive from; "" where it is written as a function.
        folder: package of their files; "" where packages of the entry point group `poise.recipes` hold them.
        supplied: arguments that the framework gives, never a config. A function takes the first of them.
        function: written as functions.
        makers: a user's function that makes one will do as well.
    """

    name: str
    plural: str
    root: str = ""
    folder: str = ""
    supplied: tuple[str, ...] = ()
    function: bool = False
    makers: bool = False


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("recipe", "recipes", root="poise.recipe:Recipe"),
        Kind("calibrator", "calibrators", root="poise.calibrator:Calibrator"),
        Kind("data", "data", root="poise.data.source:DataSource", folder="poise.data.sources", makers=True),
        Kind("wrapper", "wrappers", root="poise.data.wrapper:Wrapper", folder="poise.data.wrappers"),
        Kind("model", "models", folder="poise.models", supplied=("num_classes", "input_shape"), function=True),
        Kind("optimizer", "optimizers", folder="poise.optimizers", supplied=("parameters",), function=True),
        Kind("schedule", "schedules", folder="poise.schedules", supplied=("progress",), function=True),
        Kind("evaluator", "evaluators", root="poise.evaluator:Evaluator", folder="poise.evaluation"),
    )
}


ROOTS: frozenset[str] = frozenset(kind.root for kind in KINDS.values() if kind.root)


class WrongKindError(UserError):
    """A user's own class or function that exists, but is of another kind."""

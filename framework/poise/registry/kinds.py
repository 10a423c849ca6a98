"""The kinds of things that have a name, and where each kind lives."""

from dataclasses import dataclass

from poise.errors import UserError


@dataclass(frozen=True)
class Kind:
    """One kind of thing.

    Args:
        name: 'recipe' …, as in code and config.
        plural: as in `poise list recipes`.
        root: "module:Class" that its classes derive from; "" where it is written as a function.
        group: entry point group of the packages that hold them, built in or a stranger's.
        folder: package of those that the core itself has; "" where it has none.
        supplied: arguments that the framework gives, never a config. A function takes the first of them.
        reserved: what a config says of every one of the kind, beside its parameters, which are not called so.
        function: written as functions.
        makers: a user's function that makes one will do as well.
        spaces: a function whose first parameter is text that has to be given may be named with it: `timm/resnet18`.
        place: where a config names it, for messages; "" is in the group called like the kind.
    """

    name: str
    plural: str
    group: str
    root: str = ""
    folder: str = ""
    supplied: tuple[str, ...] = ()
    reserved: tuple[str, ...] = ()
    function: bool = False
    makers: bool = False
    spaces: bool = False
    place: str = ""


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("recipe", "recipes", "poise.recipes", root="poise.recipe:Recipe"),
        Kind("calibrator", "calibrators", "poise.recipes", root="poise.calibrator:Calibrator", place="in calibration="),
        Kind(
            "data",
            "data",
            "poise.data",
            root="poise.data.source:DataSource",
            folder="poise.data.sources",
            makers=True,
            place="first in data=",
        ),
        Kind(
            "wrapper",
            "wrappers",
            "poise.wrappers",
            root="poise.data.wrapper:Wrapper",
            folder="poise.data.wrappers",
            place="after the source in data=",
        ),
        Kind(
            "augmentation",
            "augmentations",
            "poise.augmentations",
            root="poise.data.augmentation:Augmentation",
            folder="poise.data.augmentations",
            place="in augment=",
        ),
        Kind(
            "model",
            "models",
            "poise.models",
            folder="poise.models",
            supplied=("num_classes", "input_shape"),
            reserved=("checkpoint", "new_head", "freeze", "channels_last"),
            function=True,
            spaces=True,
        ),
        Kind(
            "optimizer",
            "optimizers",
            "poise.optimizers",
            folder="poise.optimizers",
            supplied=("parameters",),
            reserved=("layer_decay", "decay_norms_and_biases"),
            function=True,
        ),
        Kind(
            "schedule", "schedules", "poise.schedules", folder="poise.schedules", supplied=("progress",), function=True
        ),
        Kind(
            "evaluator",
            "evaluators",
            "poise.evaluators",
            root="poise.evaluator:Evaluator",
            folder="poise.evaluation",
            place="in evaluation=",
        ),
    )
}


ROOTS: frozenset[str] = frozenset(kind.root for kind in KINDS.values() if kind.root)


class WrongKindError(UserError):
    """A user's own class or function that exists, but is of another kind."""

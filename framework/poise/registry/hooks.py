"""The hooks of a recipe in the order a step calls them, and what happens where two members have one hook."""

from typing import Literal

Composition = Literal["one", "chained", "multiplied", "added", "event"]

HOOKS: dict[str, Composition] = {
    "setup": "event",
    "head": "one",
    "sample_weights": "multiplied",
    "mix": "chained",
    "inner": "one",
    "attack": "one",
    "perturb_weights": "one",
    "transform": "chained",
    "adjust": "chained",
    "criterion": "one",
    "objective": "one",
    "weigh": "multiplied",
    "penalty": "added",
    "lr_factor": "multiplied",
    "eval_weights": "one",
    "on_epoch_start": "event",
    "on_step_end": "event",
    "on_epoch_trained": "event",
    "on_epoch_end": "event",
    "after_fit": "event",
    "passes": "added",
}

ONE_OWNER: tuple[str, ...] = tuple(hook for hook, composition in HOOKS.items() if composition == "one")

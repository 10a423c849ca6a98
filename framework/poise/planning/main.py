"""A plan from what was asked to what is told: data → one step rehearsed → each strategy → text."""

from poise.config.planning import Plan
from poise.data.dataset import Splits
from poise.data.stand_in import stand_in
from poise.given import Objects
from poise.parts import as_wrapped, load_splits, make
from poise.planning.outlook import outlook, strategies_of
from poise.planning.rehearsal import rehearse
from poise.planning.told import told

BESIDE = 8  # times as many examples to train on as in each other split, where nothing says it


def planned(plan: Plan) -> str:
    """What the run would take, as text.

    Raises:
        Refusal: a stack that cannot train so.
        UserError: data, model or settings that do not fit.
    """
    rehearsal = rehearse(plan.config, splits_of(plan))
    return told(plan, rehearsal, [outlook(plan, rehearsal, strategy) for strategy in strategies_of(plan)])


def splits_of(plan: Plan) -> Splits:
    """Data of the right sizes: as told, as published, or else read."""
    config, asked = plan.config, plan.machines
    if asked.shape and asked.classes and asked.examples:
        beside = max(2, asked.examples // BESIDE)
        sizes = {"train": asked.examples, "val": beside, "calibration": beside, "test": beside}
        return as_wrapped(config, stand_in(asked.shape, asked.classes, sizes, asked.groups))
    blank = make("data", config.data).stand_in()
    return load_splits(config, Objects()) if blank is None else as_wrapped(config, blank)

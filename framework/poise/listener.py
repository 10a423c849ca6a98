"""What follows a training from outside."""

from lightning.pytorch.callbacks import Checkpoint


class Listener(Checkpoint):
    """A callback that hears of an epoch's end after the module, and so after the recipes, have had their say.

    Lightning tells callbacks before the module, but for those of the kind that saves: only they find what the module
    logs at an epoch's end. They stay in the order they are given in. A trainer with
    `enable_checkpointing=False` takes none.
    """

"""What can be said of a config as a whole before anything is built."""

import re

from poise import registry
from poise.config.draft import Draft
from poise.config.schema import Config
from poise.data.blocks import check_sizes
from poise.errors import UserError

_TIME = re.compile(r"\d+|\d+:\d\d(:\d\d)?|\d+-\d\d?(:\d\d){0,2}")


def check_trainer(config: Config, draft: Draft) -> None:
    """Batch, devices, micro-batches and blocks have to fit each other."""
    trainer = config.trainer
    sizes = (trainer.batch_size, trainer.devices, trainer.accumulate, trainer.block_size)
    if min(sizes) < 1:
        return  # said already, where it was read
    try:
        check_sizes(*sizes)
    except UserError as error:
        draft.mistake(str(error))


def check_slurm(config: Config, draft: Draft) -> None:
    """A time limit that Slurm would read as another one is refused."""
    time = config.slurm.time
    if time is not None and not _TIME.fullmatch(time):
        draft.mistake(f"slurm.time={time} is no time limit: write minutes, 30:00, 8:00:00 or 1-12:00:00.")


def check_threat(config: Config, draft: Draft) -> None:
    """An eps that the data's range does not allow is most likely in the wrong unit.

    Data sources whose range depends on what they read say `valid_range = None`.
    """
    eps, name = config.threat.eps, config.threat.name
    if eps is None:
        return
    if eps < 0:
        draft.mistake(f"threat.eps={eps:g} is negative: give 0 or more, such as 8/255.")
    if eps <= 1 or name != "linf" or not config.data.name:
        return
    valid_range = registry.find("data", config.data.name).attributes.get("valid_range", (0.0, 1.0))
    if valid_range == (0.0, 1.0):
        draft.mistake(
            f"threat.eps={eps:g} is larger than the whole range 0…1 of the data: eps is in input units. "
            f"Did you mean threat.eps={eps:g}/255?"
        )

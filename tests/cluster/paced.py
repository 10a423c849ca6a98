"""A member of a stack that gives the tests time."""

import time

from poise.batch import Batch
from poise.recipe import Recipe
from poise.step import Step


class Paced(Recipe):
    """Wait after each step; changes no number.

    Args:
        seconds: to wait.
    """

    def __init__(self, seconds: float = 0.0) -> None:
        super().__init__()
        self.seconds = seconds

    def on_step_end(self, batch: Batch, step: Step) -> None:
        time.sleep(self.seconds)

"""A Lightning logger that passes training curves on."""

from argparse import Namespace
from collections.abc import Callable, Mapping
from typing import Any

from lightning.pytorch.loggers import Logger

from poise.tracking.facts import name_of


class Curves(Logger):
    """Gives what Lightning logs to a function.

    Args:
        write: takes values by name, and a step.
        step: gives the number of optimiser steps done: Lightning counts its own from 0, and anew after some stops.
    """

    def __init__(self, write: Callable[[Mapping[str, float], int], None], step: Callable[[], int]) -> None:
        super().__init__()
        self._write, self._step = write, step
        self._names: dict[str, str] = {}

    @property
    def name(self) -> str:
        """Of the logger, for Lightning."""
        return "poise"

    @property
    def version(self) -> str:
        """None is needed: a run's directory says which run it is."""
        return ""

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Pass values on."""
        names = self._names
        for name in metrics:
            if name not in names:
                names[name] = name_of(name)
        self._write({names[name]: float(value) for name, value in metrics.items()}, self._step())

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *arguments: Any, **named: Any) -> None:
        """A run's parameters are those of its config."""

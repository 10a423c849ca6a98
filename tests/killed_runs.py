"""Small runs of whatever is registered, to be killed and taken up again: stacks, settings, and a process's part."""

import os
import random as globally
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch

from contracts import kit
from moments import Moment, counted
from poise import registry
from poise.batch import Batch
from poise.recipe import Recipe
from poise.rules import Refusal
from poise.step import Step
from small_runs import network, small_fit

PRECISIONS = ("32-true", "64-true", "bf16-mixed")
LARGEST = 5  # members of a stack

Names = tuple[str, ...]


class Stops(Recipe):
    """Ends the training early."""

    def __init__(self, steps: int = 5) -> None:
        super().__init__()
        self.steps = steps

    def on_step_end(self, batch: Batch, step: Step) -> None:
        """Stop after a number of steps."""
        if step.global_step + 1 == self.steps:
            step.stop("it is enough")


@dataclass(frozen=True)
class Case:
    """A run to kill.

    Args:
        names: of its recipes, in order.
        stops: step after which a recipe ends the training; None where none does.
        trainer: settings of the trainer.
        groups: the config's other groups.
    """

    names: Names
    stops: int | None = None
    trainer: Mapping[str, Any] = field(default_factory=dict)
    groups: Mapping[str, Any] = field(default_factory=dict)


def trained(run_dir: str, case: Case, salt: int, until: Moment | None = None) -> Counter[str]:
    """Train, or go on, with global generators as nobody left them; the calls made in each stage."""
    globally.seed(salt)
    np.random.seed(salt)
    torch.manual_seed(salt)
    members: dict[str, Recipe] = {name: member for name, member in kit.stack(case.names).items() if name in case.names}
    if case.stops is not None:
        members["stops"] = Stops(case.stops)
    trainer = {"max_epochs": 3, "batch_size": kit.BATCH, **case.trainer}
    with counted(until) as calls:
        model = kit.two_models() if kit.teaches_to_mix(case.names) else network()
        small_fit(run_dir, members, trainer, data=kit.splits(), model=model, **case.groups)
    return calls


def warm(folder: str) -> None:
    """Train once: what is imported late is imported, and what is looked for once is found."""
    trained(f"{folder}/warm", Case(("trades", "ema")), 0)


def database(folder: Path) -> dict[str, Any]:
    """Where a run is tracked: in a folder's database, each step of it."""
    return {"name": "mlflow", "uri": f"sqlite:///{folder}/mlflow.db", "every": 1}


def stacks(random: Random) -> list[Names]:
    """Stacks that together hold every registered recipe."""
    left = list(registry.records("recipe"))
    random.shuffle(left)
    made = []
    while left:
        names = kit.with_partners(left[0])
        for further in left[1:]:
            if further not in names and len(names) < LARGEST and trains((*names, further)):
                names = (*names, further)
        made.append(names)
        left = [name for name in left if name not in names]
    return made


def trains(names: Names) -> bool:
    """Whether a stack is not refused."""
    try:
        kit.admitted(names, augment={})
    except Refusal:
        return False
    return True


def cases(random: Random, stacks: list[Names], folder: Path) -> Iterator[Case]:
    """Every stack in turn, in each precision in turn, with other settings drawn each time."""
    table = folder / "errors.npy"
    np.save(table, kit.TABLES["errors"].numpy())
    for number, names in enumerate(cycle(stacks)):
        stack = kit.stack(names)
        needs = frozenset[str]().union(*(member.needs for _, member in stack.items()))
        divisible = stack.replays == 1 and "whole_batch" not in needs
        trainer = {
            "precision": PRECISIONS[number % len(PRECISIONS)],
            "checkpoint_every": random.choice((None, 1, 2)),
            "block": random.choice((4, 8)),
            "max_steps": random.choice((None, None, 8)),
            "accumulate": random.choice((1, 2)) if divisible else 1,
        }
        groups = {
            "seed": number,
            "optimizer": random.choice(("sgd", "adamw", {"name": "sgd", "layer_decay": 0.7})),
            "augment": random.choice(("none", augmentations())),
            "calibration": random.choice(("temperature_scaling", "none")),
            "tables": {"errors": str(table)} if "table:errors" in needs else {},
            "tracking": {"name": "none", "every": random.choice((1, 2))},
        }
        yield Case(names, random.choice((None, None, 5, 6)), trainer, groups)


def augmentations() -> dict[str, Any]:
    """All that are registered, as a config has them; of a size that fits, where they have one."""
    records = registry.records("augmentation")
    sizes = {
        name: {p.name: 2 for p in record.parameters if p.name == "size" and p.default}
        for name, record in records.items()
    }
    return {"name": list(records), **sizes}


def trained_in_ranks(run_dir: str, case: Case, salt: int, until: Moment | None, victim: int) -> Counter[str]:
    """As `trained`, on a rank; only one of them is killed by itself."""
    return trained(run_dir, case, salt, until if int(os.environ["RANK"]) == victim else None)


def stored(database: Path, name: str) -> list[tuple[Any, ...]]:
    """What MLflow's database holds of a run, which is there once: how it ended, and each value with its step."""
    with closing(sqlite3.connect(database)) as connection:
        ((run, status),) = connection.execute("select run_uuid, status from runs where name = ?", [name]).fetchall()
        values = connection.execute("select key, step, value from metrics where run_uuid = ?", [run]).fetchall()
    return [(status,), *sorted(values)]

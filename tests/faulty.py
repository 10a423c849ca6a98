"""What goes wrong on one of several ranks, each for real: called in processes of their own (`forks.Forks`)."""

import io
import os
import resource
import signal
import time
from collections.abc import Mapping
from contextlib import redirect_stderr
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor

from poise import company
from poise.batch import Batch, Outcome, Predictions
from poise.cli import attempt
from poise.data.dataset import Arrays
from poise.evaluator import Evaluator, Findings, Subject
from poise.recipe import Recipe
from poise.step import Step
from poise_recipes.calibration.temperature_scaling import TemperatureScaling
from small_runs import rows, small_fit, splits

TWO = {"devices": 2, "block": 4}


# -- the ranks' company ----------------------------------------------------------------------------------------


def meets(timeout: float, alone: float, times: int = 1) -> float:
    """Seconds that this rank is in meetings to which rank 0 comes late each time."""
    began = time.monotonic()
    with company.kept(timeout):
        for _ in range(times):
            if dist.get_rank() == 0:
                time.sleep(alone)
            company.meet()
    return time.monotonic() - began


def meets_one_that(timeout: float, number: int, last: bool = False) -> None:
    """Meet a rank that gets a signal on its way."""
    with company.kept(timeout):
        time.sleep(0.7)
        if dist.get_rank() == (1 if last else 0):
            os.kill(os.getpid(), number)
        company.meet()


def meets_one_that_fails(timeout: float) -> None:
    with company.kept(timeout):
        if dist.get_rank() == 0:
            raise ValueError("https://me:hunter22@host says no")
        company.meet()


def reduces_with_one_that(timeout: float, number: int) -> None:
    """Wait in a collective for a rank that gets a signal."""
    _collectives_take(timeout)
    with company.kept(timeout):
        time.sleep(0.7)
        if dist.get_rank() == 1:
            os.kill(os.getpid(), number)
        dist.all_reduce(torch.zeros(1))


def reduces_with_one_elsewhere(timeout: float) -> None:
    """Wait in a collective for a rank that lives and does not come."""
    _collectives_take(timeout)
    with company.kept(timeout):
        if dist.get_rank() == 1:
            time.sleep(8 * timeout)
        dist.all_reduce(torch.zeros(1))


def _collectives_take(seconds: float) -> None:
    backend = dist.distributed_c10d._get_default_group()._get_backend(torch.device("cpu"))
    backend._set_default_timeout(timedelta(seconds=seconds))


# -- runs ------------------------------------------------------------------------------------------------------


class FailsOnOneRank(Recipe):
    """A hook that fails on rank 1 in the second epoch."""

    def objective(self, batch: Batch, step: Step) -> Outcome:
        if step.global_step == 5 and step.ranks.rank == 1:
            raise ValueError("one rank's hook has had enough")
        return super().objective(batch, step)


class Unreadable(Arrays):
    """Rows of which one cannot be read, by rank 1."""

    def fetch(self, indices: Shaped[Tensor, " n"]) -> dict[str, Tensor]:
        if os.environ["RANK"] == "1" and len(indices) == 8 and 40 in indices.tolist():
            raise OSError("row 40 of the data is damaged")
        return super().fetch(indices)


class Hungry(Recipe):
    """Takes more memory than there is, on rank 1 in the second epoch."""

    def objective(self, batch: Batch, step: Step) -> Outcome:
        if step.global_step == 5 and step.ranks.rank == 1:
            _, most = resource.getrlimit(resource.RLIMIT_AS)
            resource.setrlimit(resource.RLIMIT_AS, (_memory() + 2**27, most))
            torch.zeros(2**28)
        return super().objective(batch, step)


class SlowOnFirst(Evaluator):
    """Works on rank 0 for longer than a collective waits; each rank counts as far as it has come."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def evaluate(self, subject: Subject) -> Findings:
        if subject.ranks.rank == 0:
            time.sleep(self.seconds)
        return Findings({"test/slow": 1.0})


def fails_in_a_hook(run_dir: str) -> None:
    small_fit(run_dir, [FailsOnOneRank()], trainer=TWO)


def fails_in_reading(run_dir: str) -> None:
    train = rows(68, 0)
    unreadable = Unreadable(train.x, train.label, train.group)
    small_fit(run_dir, data=splits(train=unreadable), trainer=TWO)


def fails_for_memory(run_dir: str) -> None:
    small_fit(run_dir, [Hungry()], trainer=TWO)


def evaluates_slowly(run_dir: str, timeout: float, alone: float) -> dict[str, float]:
    """A run whose rank 0 works alone, twice, for longer than collectives wait."""
    _collectives_take(timeout)
    here = "faulty:SlowOnFirst"
    slow = {"name": f"{here}@slow,{here}@again", "slow": {"seconds": alone}, "again": {"seconds": alone}}
    result = small_fit(run_dir, trainer={**TWO, "timeout": timeout, "max_epochs": 1}, evaluation=slow)
    return result.metrics


def _memory() -> int:
    """Bytes of address space that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    return pages * os.sysconf("SC_PAGE_SIZE")


# -- one process that is interrupted ---------------------------------------------------------------------------


class Asks(Recipe):
    """Asks its own process to stop at the end of an epoch's validation."""

    def on_epoch_end(self, step: Step, metrics: Mapping[str, float]) -> None:
        if step.epoch == 1:
            signal.raise_signal(signal.SIGINT)


class AsksInCalibration(TemperatureScaling):
    """Asks its own process to stop while it is fitted."""

    def fit(self, held_out: Predictions, unlabelled: Predictions | None = None) -> "AsksInCalibration":
        signal.raise_signal(signal.SIGTERM)
        return self


class AsksInEvaluation(Evaluator):
    """Asks its own process to stop while it looks."""

    def evaluate(self, subject: Subject) -> Findings:
        signal.raise_signal(signal.SIGINT)
        return Findings({})


STAGES: dict[str, dict[str, Any]] = {
    "validation": {"recipe": "faulty:Asks"},
    "calibration": {"calibration": "faulty:AsksInCalibration"},
    "evaluation": {"evaluation": "faulty:AsksInEvaluation"},
}


def interrupted_in(stage: str, run_dir: str) -> tuple[int, str]:
    """The exit code of a run that is asked to stop at some stage, and what the command says."""

    def run(_: list[str]) -> int:
        small_fit(run_dir, **STAGES[stage])
        return 0

    with redirect_stderr(io.StringIO()) as said:
        code = attempt(run, [])
    return code, said.getvalue()

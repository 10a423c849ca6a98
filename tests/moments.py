"""Moments of a run to kill it at: so many calls into one of its stages, and a little later."""

import importlib
import inspect
import os
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from random import Random
from types import CodeType, FrameType
from typing import Any

STAGES = {
    "start": ("poise.run_directory:RunDirectory.claim", "poise.run_directory:RunDirectory.keep_data"),
    "training": ("lightning.pytorch.trainer.trainer:Trainer.fit",),
    "step": ("poise.module:TrainingModule.training_step", "poise.module:TrainingModule.optimizer_step"),
    "curves": ("poise.tracking.curves:Curves._pass_on",),
    "validation": ("lightning.pytorch.loops.evaluation_loop:_EvaluationLoop.run",),
    "end of an epoch": ("poise.module:TrainingModule.on_train_epoch_end",),
    "checkpoint": ("poise.saving:Saver._save",),
    "choice of a checkpoint": ("poise.saving:best", "poise.saving:load_weights"),
    "last words of the recipes": ("poise.train:_after_fit",),
    "calibration": ("poise.assessment:calibrate",),
    "evaluation": ("poise.assessment:evaluate",),
    "shipping": ("poise.assessment:ship",),
    "report": ("poise.assessment:conclude",),
    "spool": ("poise.tracking.spool:Spool._append", "poise.tracking.spool:Spool.save"),
    "sending": ("poise.tracking.writer:Writer._send",),
    "end of tracking": ("poise.tracking.tracker:Tracker.end",),
}
LATER = 0.004  # seconds, the longest: writing a small file takes less


@dataclass(frozen=True)
class Moment:
    """When a process is killed.

    Args:
        stage: one of STAGES.
        call: number of the call within the stage, of Python's functions and C's, before which it is.
        delay: seconds after it, in which the process goes on: so calls of C are cut short as well.
    """

    stage: str
    call: int
    delay: float


def drawn(random: Random, calls: Counter[str]) -> Moment:
    """A moment in any stage alike of a run that makes so many calls in each."""
    stage = random.choice(sorted(stage for stage, count in calls.items() if count))
    call = 1 + int(calls[stage] * random.random() ** random.choice((1, 3)))
    return Moment(stage, call, random.choice((0, LATER * random.random())))


@contextmanager
def counted(until: Moment | None = None) -> Iterator[Counter[str]]:
    """The calls made meanwhile in each stage; at a moment the process is killed, with no chance to say a word."""
    codes = {_code(place): stage for stage, places in STAGES.items() for place in places}
    calls: Counter[str] = Counter()

    def begin(*_: Any) -> None:
        sys.setprofile(_Counter(codes, calls, until))

    threading.setprofile(begin)
    begin()
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)  # type: ignore[arg-type]


class _Counter:
    """Python's profile function of one thread."""

    def __init__(self, codes: dict[CodeType, str], calls: Counter[str], until: Moment | None) -> None:
        self.codes, self.calls, self.until = codes, calls, until
        self.depths: Counter[str] = Counter()

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event in ("call", "return") and (stage := self.codes.get(frame.f_code)):
            self.depths[stage] += 1 if event == "call" else -1
            self.depths += Counter()  # which drops those that are over
        if event in ("call", "c_call") and self.depths:
            for stage in self.depths:
                self.calls[stage] += 1
                if self.until and stage == self.until.stage and self.calls[stage] == self.until.call:
                    _kill(self.until.delay)


def _kill(delay: float) -> None:
    if delay:
        threading.Timer(delay, os.kill, (os.getpid(), signal.SIGKILL)).start()
    else:
        os.kill(os.getpid(), signal.SIGKILL)


def _code(place: str) -> CodeType:
    module, _, name = place.partition(":")
    function = reduce(getattr, name.split("."), importlib.import_module(module))
    code: CodeType = inspect.unwrap(function).__code__  # type: ignore[arg-type]
    return code

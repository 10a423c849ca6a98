"""What tracking costs a training step: `python tests/benchmarks/tracking.py` prints the table of README.md."""

import argparse
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from measure import HEADER, Meter, Ratio, Turns, interleave
from programs import CLASSES, SGD, Job, Metered

from poise import TrainingModule
from poise.config import compose, to_yaml
from poise.console import without_chatter
from poise.history import History
from poise.run_directory import RunDirectory
from poise.tracking.curves import Curves, Write
from poise.tracking.tracker import NoTracker, tracked

JOB = Job(side=16, width=24, batch_size=128, steps=21, turns=40)

ACCOUNT = """\
| every | ms a step, training | ms a step, writer | both, of 50 ms | ms of the step |
| --- | --- | --- | --- | --- |"""


def untracked(job: Job, meter: Meter) -> None:
    """A training whose values nobody takes."""
    _train(job, meter, [], every=None)


def to_mlflow(job: Job, folder: Path, every: int, meter: Meter) -> None:
    """A run's, whose curves go to a file and to a tracker's writer, which sends to an SQLite database meanwhile."""
    with _tracker(folder, every) as tracker:
        _train(job, meter, [Curves(_writes(folder, tracker), every)], every)


def _writes(folder: Path, tracker: NoTracker) -> list[Write]:
    return [History(folder / "curves.jsonl").append, *tracker.writes()]


@contextmanager
def _tracker(folder: Path, every: int) -> Iterator[NoTracker]:
    tracking = {"name": "mlflow", "uri": f"sqlite:///{folder / 'mlflow.db'}", "every": every}
    config = compose({"tracking": tracking, "run_dir": str(folder / f"run-{every}")})
    directory = RunDirectory(Path(str(config.run_dir)))
    directory.claim(to_yaml(config))
    with tracked(config, directory, first=True) as tracker:
        yield tracker


def _train(job: Job, meter: Meter, callbacks: list[Callback], every: int | None) -> None:
    def optimizer(parameters: Any) -> torch.optim.Optimizer:
        return torch.optim.SGD(parameters, **SGD)

    with without_chatter():
        trainer = L.Trainer(
            max_epochs=1,
            limit_val_batches=0,
            accelerator="cpu",
            devices=1,
            callbacks=callbacks,
            logger=False,
            log_every_n_steps=every,
            enable_checkpointing=bool(callbacks),  # Lightning takes those that hear of an epoch's end last for savers
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            inference_mode=False,
        )
        trainer.fit(TrainingModule(job.model(), (), CLASSES, optimizer=optimizer), Metered(job, meter))


def compare(job: Job, every: int) -> Ratio:
    """A tracked run over one whose values nobody takes, by turns. The writer is at work in the turns of both."""
    with tempfile.TemporaryDirectory() as folder:
        programs = {"tracked": partial(to_mlflow, job, Path(folder), every), "untracked": partial(untracked, job)}
        times = interleave(programs, job.steps)
    return Ratio(f"tracked, every {every} ({job})", "untracked", times["tracked"], times["untracked"])


class Clocked(Curves):
    """Curves that know what they and the writer cost, in seconds of a processor.

    Args:
        writes: of the run.
        every: optimiser steps between two points.
        first: step from which on it counts: the run is made by then, and MLflow imported.
    """

    def __init__(self, writes: list[Write], every: int, first: int) -> None:
        super().__init__(writes, every)
        self.own, self._first = 0.0, first
        self._clock = time.pthread_getcpuclockid(thread_named("poise-tracking").ident or 0)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Count what the module spends on the values of a step that is due, too."""
        pl_module.log_dict = self._clocked(pl_module.log_dict)  # type: ignore[method-assign]

    def _clocked(self, act: Callable[..., None]) -> Callable[..., None]:
        def clocked(*arguments: Any, **named: Any) -> None:
            start = time.thread_time()
            act(*arguments, **named)
            self.own += time.thread_time() - start

        return clocked

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *arguments: Any) -> None:
        self._clocked(super().on_train_batch_end)(trainer, pl_module, *arguments)
        if trainer.global_step == self._first:
            self.own, self._start, self._writer = 0.0, time.perf_counter(), time.clock_gettime(self._clock)

    def row(self, steps: int) -> str:
        """One line: milliseconds a step of the training's thread and of the writer's, and both as a share of 50."""
        own, writer = self.own, time.clock_gettime(self._clock) - self._writer
        step = (time.perf_counter() - self._start) / steps
        cells = [f"{1e3 * seconds:.3f}" for seconds in (own / steps, writer / steps)]
        return f"| {self._every} | {' | '.join(cells)} | {(own + writer) / steps / 0.05:.2%} | {1e3 * step:.1f} |"


def thread_named(name: str) -> threading.Thread:
    """The thread of that name."""
    return next(thread for thread in threading.enumerate() if thread.name == name)


def account(job: Job, every: int) -> str:
    """What each thread spends on tracking; the first third of the steps, in which MLflow is imported, is left out."""
    steps = job.steps * (job.turns + 1)
    with tempfile.TemporaryDirectory() as folder, _tracker(Path(folder), every) as tracker:
        clocked = Clocked(_writes(Path(folder), tracker), every, steps // 3)
        _train(job, Meter("", Turns([""]), job.steps), [clocked], every)
        return clocked.row(steps - steps // 3)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=JOB.turns, help="of each program")
    options = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # Lightning's advice on loaders and logging
    print(f"PyTorch {torch.__version__}, 1 thread\n\n{HEADER}", flush=True)
    job = replace(JOB, turns=options.turns)
    print(compare(job, 10).row(), flush=True)
    print(f"\n{ACCOUNT}", flush=True)
    for every in (10, 1):
        print(account(job, every), flush=True)


if __name__ == "__main__":
    main()

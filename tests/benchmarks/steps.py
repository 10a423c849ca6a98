"""What a training step costs through poise: `python tests/benchmarks/steps.py` prints the table of README.md."""

import argparse
import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from measure import HEADER, Ratio, interleave, share_one_heap
from programs import Job, bare, lightning, poise, trades_floor

from poise_recipes import Trades

LARGE = Job(side=16, width=32, batch_size=128, steps=3, turns=40)
MIDDLE = Job(side=16, width=16, batch_size=64, steps=2, turns=40)
DIGITS = Job(side=8, width=16, batch_size=128, steps=11, turns=40)
SMALLER = Job(side=8, width=8, batch_size=32, steps=21, turns=40)


def plain_over_bare(job: Job) -> Ratio:
    """The empty stack over a loop in plain PyTorch; 50 ms a step or more."""
    times = interleave({"poise": partial(poise, job), "bare": partial(bare, job)}, job.steps)
    return Ratio(f"plain ({job})", "bare PyTorch", times["poise"], times["bare"], 1.05)


def plain_over_lightning(job: Job, target: float | None) -> Ratio:
    """The empty stack over the smallest LightningModule; a tiny model."""
    times = interleave({"poise": partial(poise, job), "lightning": partial(lightning, job)}, job.steps)
    return Ratio(f"plain ({job})", "plain Lightning", times["poise"], times["lightning"], target)


def trades_over_floor(job: Job) -> Ratio:
    """TRADES with ten attack steps over the same passes by hand."""
    stack = partial(poise, job, recipe=[Trades()])
    times = interleave({"poise": stack, "floor": partial(trades_floor, job)}, job.steps)
    return Ratio(f"TRADES-10 ({job})", "its floor by hand", times["poise"], times["floor"], 1.05)


COMPARISONS: list[Callable[[int | None], Ratio]] = [
    lambda turns: plain_over_bare(_with(LARGE, turns)),
    lambda turns: plain_over_lightning(_with(DIGITS, turns), 1.10),
    lambda turns: plain_over_lightning(_with(SMALLER, turns), None),
    lambda turns: trades_over_floor(_with(replace(DIGITS, steps=2, turns=80), turns)),
    lambda turns: trades_over_floor(_with(MIDDLE, turns)),
]


def _with(job: Job, turns: int | None) -> Job:
    return job if turns is None else replace(job, turns=turns)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, help="of each program; those of README.md if not given")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    share_one_heap()
    warnings.simplefilter("ignore")  # Lightning's advice on loaders and logging
    print(f"PyTorch {torch.__version__}, {options.threads} thread(s)\n\n{HEADER}", flush=True)
    for compare in COMPARISONS:
        print(compare(options.turns).row(), flush=True)


if __name__ == "__main__":
    main()

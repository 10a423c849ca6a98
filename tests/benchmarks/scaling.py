"""What training on several ranks costs through poise: `python tests/benchmarks/scaling.py` prints the tables."""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from statistics import fmean, median

import torch
import torch.distributed as dist
from measure import HEADER, Program, Ratio, interleave, share_one_heap
from programs import Job, bare, poise, trades_floor
from residual import Residual
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from poise_recipes import Trades

Times = dict[str, list[float]]

CLOCKS: dict[str, Callable[[], float]] = {"clock": time.perf_counter, "processor": time.process_time}
ALONE, STRONG, WEAK = "1 rank", "2 ranks", "2 ranks, twice the batch"
TARGET = 1 / 0.97

SCALING_HEADER = """\
| step | scaling | by hand | poise |
| --- | --- | --- | --- |"""


def programs(name: str, job: Job) -> dict[str, Program]:
    """poise, and the same by hand, under DDP where there are several ranks."""
    if name == "TRADES-10":
        return {"poise": partial(poise, job, recipe=[Trades()]), "hand": partial(trades_floor, job)}
    return {"poise": partial(poise, job), "hand": partial(bare, job)}


def on_one_rank(name: str, job: Job, ranks: int) -> dict[str, Times]:
    """In a rank's process: seconds of a step by each clock, of programs that take turns on all ranks at once."""
    torch.set_num_threads(1)
    share_one_heap()
    warnings.simplefilter("ignore")  # Lightning's advice on loaders and logging
    if ranks > 1:
        dist.init_process_group("gloo")
    return {name_: interleave(programs(name, job), job.steps, clock) for name_, clock in CLOCKS.items()}


def measured(name: str, job: Job, ranks: int) -> dict[str, Times]:
    """Seconds of a step by each clock on so many ranks: of each turn the mean over ranks."""
    meeting = {"run_id": "scaling", "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    config = LaunchConfig(1, 1, ranks, max_restarts=0, **meeting)
    found: dict[int, dict[str, Times]] = elastic_launch(config, on_one_rank)(name, job, ranks)
    return {
        clock: {
            program: [fmean(turn) for turn in zip(*(own[clock][program] for own in found.values()), strict=True)]
            for program in found[0][clock]
        }
        for clock in CLOCKS
    }


def cases(job: Job) -> dict[str, tuple[Job, int]]:
    """The same work on one rank and on two, and twice the work on two."""
    return {ALONE: (job, 1), STRONG: (job, 2), WEAK: (replace(job, batch_size=2 * job.batch_size), 2)}


def ratios(name: str, case: str, job: Job, times: dict[str, Times]) -> Iterator[Ratio]:
    """Lines of the first table."""
    for clock, found in times.items():
        over = f"the same by hand, {clock}"
        yield Ratio(f"{name} ({job}), {case}", over, found["poise"], found["hand"], TARGET)


def scaling(name: str, job: Job, found: dict[str, dict[str, Times]]) -> Iterator[str]:
    """Lines of the second table: how much of one rank's speed is left on each of two."""
    step = {
        case: {program: median(seconds) for program, seconds in times["clock"].items()} for case, times in found.items()
    }
    for kind, case, most in (("strong", STRONG, 2), ("weak", WEAK, 1)):
        kept = {program: step[ALONE][program] / (most * step[case][program]) for program in ("hand", "poise")}
        yield f"| {name} ({job}) | {kind} | {kept['hand']:.3f} | {kept['poise']:.3f} |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=30, help="of each program by each clock")
    parser.add_argument("--small", action="store_true", help="only the smallest job, to see that the program runs")
    options = parser.parse_args()
    small = Job(side=16, width=32, batch_size=128, steps=4, turns=options.turns)
    jobs: list[tuple[str, Job]] = [
        ("plain", small),
        ("plain", Residual(32, 0, 32, steps=3, turns=options.turns)),
        ("TRADES-10", replace(small, width=16, steps=3)),
    ]
    if options.small:
        jobs = [("TRADES-10", replace(small, side=8, width=4, batch_size=32))]
    print(f"PyTorch {torch.__version__}, one thread a rank\n\n{HEADER}", flush=True)
    second = []
    for name, job in jobs:
        found = {}
        for case, (sized, ranks) in cases(job).items():
            found[case] = measured(name, sized, ranks)
            for ratio in ratios(name, case, sized, found[case]):
                print(ratio.row(), flush=True)
        second += scaling(name, job, found)
    print("\n".join(["", SCALING_HEADER, *second]))


if __name__ == "__main__":
    main()

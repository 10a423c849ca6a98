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
SMALL = Job(side=16, width=32, batch_size=128, steps=4, turns=1)
JOBS: dict[str, tuple[str, Job]] = {
    "smallest": ("TRADES-10", replace(SMALL, side=8, width=4, batch_size=32, steps=2)),
    "small": ("plain", SMALL),
    "trades": ("TRADES-10", replace(SMALL, width=16, steps=3)),
    "resnet": ("plain", Residual(32, 0, 32, steps=3, turns=1)),
}

SCALING_HEADER = """\
| step | scaling | by hand | poise |
| --- | --- | --- | --- |"""


def programs(name: str, job: Job) -> dict[str, Program]:
    """poise, and the same by hand, under DDP where there are several ranks."""
    if name == "TRADES-10":
        return {"poise": partial(poise, job, recipe=[Trades()]), "hand": partial(trades_floor, job)}
    return {"poise": partial(poise, job), "hand": partial(bare, job)}


def on_one_rank(name: str, jobs: list[Job], ranks: int, clocks: list[str]) -> list[dict[str, Times]]:
    """In a rank's process: for each job seconds of a step by each clock, of programs that take turns on all ranks."""
    torch.set_num_threads(1)
    share_one_heap()
    warnings.simplefilter("ignore")  # Lightning's advice on loaders and logging
    if ranks > 1:
        dist.init_process_group("gloo")
    return [{clock: interleave(programs(name, job), job.steps, CLOCKS[clock]) for clock in clocks} for job in jobs]


def measured(name: str, jobs: list[Job], ranks: int, clocks: list[str]) -> list[dict[str, Times]]:
    """For each job seconds of a step by each clock on so many ranks: of each turn the mean over ranks."""
    meeting = {"run_id": "scaling", "rdzv_backend": "c10d", "rdzv_endpoint": "localhost:0"}
    config = LaunchConfig(1, 1, ranks, max_restarts=0, **meeting)
    found = elastic_launch(config, on_one_rank)(name, jobs, ranks, clocks)
    return [
        {
            clock: {
                program: [fmean(turn) for turn in zip(*(own[clock][program] for own in of_ranks), strict=True)]
                for program in of_ranks[0][clock]
            }
            for clock in clocks
        }
        for of_ranks in zip(*found.values(), strict=True)
    ]


def ratios(name: str, case: str, job: Job, times: dict[str, Times]) -> Iterator[Ratio]:
    """Lines of the first table."""
    for clock, found in times.items():
        yield Ratio(f"{name} ({job}), {case}", f"by hand, {clock}", found["poise"], found["hand"], TARGET)


def scaling(name: str, job: Job, found: dict[str, dict[str, Times]]) -> Iterator[str]:
    """Lines of the second table: how much of one rank's speed by the clock is left on each of two."""
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
    parser.add_argument("--clocks", nargs="+", choices=CLOCKS, default=list(CLOCKS), help="by which steps are timed")
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=[name for name in JOBS if name != "smallest"])
    options = parser.parse_args()
    print(f"PyTorch {torch.__version__}, one thread a rank\n\n{HEADER}", flush=True)
    second = []
    for name, job in (JOBS[chosen] for chosen in options.jobs):
        job = replace(job, turns=options.turns)
        doubled = replace(job, batch_size=2 * job.batch_size)
        cases = {ALONE: job, STRONG: job, WEAK: doubled}
        times = [*measured(name, [job], 1, options.clocks), *measured(name, [job, doubled], 2, options.clocks)]
        found = dict(zip(cases, times, strict=True))
        for case, sized in cases.items():
            for ratio in ratios(name, case, sized, found[case]):
                print(ratio.row(), flush=True)
        second += scaling(name, job, found) if "clock" in options.clocks else ()
    if second:
        print("\n".join(["", SCALING_HEADER, *second]))


if __name__ == "__main__":
    main()

"""What a step of ResNet-18 costs: `python tests/benchmarks/residual.py` prints the table of README.md."""

import argparse
import warnings
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

import torch
from measure import HEADER, Ratio, clock_of, interleave, share_one_heap
from programs import Residual, bare, poise, trades_floor

from poise import registry
from poise_recipes import Trades


def plain_over_bare(job: Residual) -> Ratio:
    """The empty stack over a loop in plain PyTorch."""
    times = interleave({"poise": partial(poise, job), "bare": partial(bare, job)}, job.steps, clock_of(job.device))
    return Ratio(f"plain ({job})", "bare PyTorch", times["poise"], times["bare"], 1.05)


def trades_over_floor(job: Residual) -> Ratio:
    """TRADES with ten attack steps over the same passes by hand, both in the job's precision."""
    stack = partial(poise, job, recipe=[Trades()])
    times = interleave({"poise": stack, "floor": partial(trades_floor, job)}, job.steps, clock_of(job.device))
    return Ratio(f"TRADES-10 ({job})", "the same by hand", times["poise"], times["floor"], 1.05)


def low_over_full(job: Residual) -> Ratio:
    """TRADES by hand in bfloat16 over the same in float32."""
    full = replace(job, precision="32-true")
    times = interleave(
        {"low": partial(trades_floor, job), "full": partial(trades_floor, full)}, job.steps, clock_of(job.device)
    )
    return Ratio(f"TRADES-10 by hand ({job})", "32-true", times["low"], times["full"])


def recipe_over_plain(name: str, job: Residual) -> Ratio:
    """A recipe without passes of its own over the empty stack."""
    stack = partial(poise, job, recipe=[registry.build("recipe", name)])
    times = interleave({"recipe": stack, "plain": partial(poise, job)}, job.steps, clock_of(job.device))
    return Ratio(f"{name} ({job})", "plain", times["recipe"], times["plain"], 1.03)


def without_passes() -> list[str]:
    """The recipes that train alone and say nothing of passes."""
    records = registry.records("recipe").values()
    return [record.name for record in records if "passes" not in record.hooks and not _needs_others(record)]


def _needs_others(record: registry.Record) -> bool:
    return bool(record.brings or record.attributes["needs"] & {"attack", "views", "kappa"})


def comparisons(job: Residual, names: list[str]) -> Iterator[Ratio]:
    """The lines of the table."""
    low = replace(job, precision="bf16-mixed")
    yield trades_over_floor(low)
    yield low_over_full(low)
    plain = replace(job, steps=2 * job.steps)
    yield plain_over_bare(plain)
    for name in names:
        yield recipe_over_plain(name, plain)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=10, help="of each program")
    parser.add_argument("--side", type=int, default=32, help="of the pictures")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument(
        "--steps", type=int, default=2, help="of a turn; twice as many where a step is one of few passes"
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="that trains")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch")
    parser.add_argument("--recipes", nargs="*", default=without_passes(), help="those without passes of their own")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    share_one_heap()
    warnings.simplefilter("ignore")  # Lightning's advice on loaders and logging
    job = Residual(options.side, 0, options.batch_size, options.steps, options.turns, device=options.device)
    print(f"PyTorch {torch.__version__}, {options.threads} thread(s)\n\n{HEADER}", flush=True)
    for ratio in comparisons(job, options.recipes):
        print(ratio.row(), flush=True)


if __name__ == "__main__":
    main()

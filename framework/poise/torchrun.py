"""torchrun starts the ranks of a config, on this machine or on several; on each this is run once.

Run as a program, this file is what launch/torchrun.sh calls: `python -m poise.torchrun recipe=trades …`.
"""

import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from poise import cli
from poise.config import CHECKS_OF_A_START, Config, parse
from poise.errors import UserError
from poise.launching import on_loopback, port
from poise.run_directory import RunDirectory, default_path

PORT = 29500


@dataclass(frozen=True)
class Machines:
    """Those that train together.

    Args:
        count: of them.
        number: of this one, from 0.
        address: of the first; "" where there is only one.
        port: at which they meet there.
    """

    count: int
    number: int
    address: str
    port: int


def machines(environment: Mapping[str, str]) -> Machines:
    """What NNODES, NODE_RANK, MASTER_ADDR and MASTER_PORT say; without them there is this machine alone.

    Raises:
        UserError: they contradict each other, or one is missing.
    """
    if environment.get("NODE_RANK") and not environment.get("NNODES"):
        raise UserError(
            f"NODE_RANK={environment['NODE_RANK']} is set and NNODES is not: NNODES=<machines that train together> "
            "belongs to it."
        )
    count = _number(environment, "NNODES", 1, lowest=1)
    if count == 1:
        return Machines(1, 0, "", 0)
    if missing := [name for name in ("NODE_RANK", "MASTER_ADDR") if not environment.get(name)]:
        raise UserError(
            f"NNODES={count} needs {missing[0]}: NODE_RANK=0 on the first machine, NODE_RANK=1 on the next …, and "
            "MASTER_ADDR=<name of the first> on all."
        )
    number = _number(environment, "NODE_RANK", 0, lowest=0)
    if number >= count:
        raise UserError(f"NODE_RANK={number} is none of NNODES={count} machines, which are 0 to {count - 1}.")
    return Machines(count, number, environment["MASTER_ADDR"], port(environment.get("MASTER_PORT") or str(PORT)))


def command(config: Config, arguments: Sequence[str], these: Machines) -> list[str]:
    """What starts the ranks of this machine.

    Args:
        config: that the arguments describe.
        arguments: of `poise train`, which every rank gets as they are.
        these: the machines.

    Raises:
        UserError: several machines have not been told which directory they share.
    """
    if config.run_dir is None and these.count > 1:
        raise UserError(
            f"NNODES={these.count}: give run_dir=, the same on all machines, on a file system that they share."
        )
    run_dir = config.run_dir or str(default_path(tuple(config.recipe)))
    chosen = [] if config.run_dir else [f"run_dir={run_dir}"]
    meeting = ["--standalone"]
    if these.count > 1:
        meeting = [f"--node-rank={these.number}", f"--master-addr={these.address}", f"--master-port={these.port}"]
    return [
        *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={these.count}", *meeting),
        f"--nproc-per-node={config.trainer.devices}",
        *("-m", "poise.torchrun_rank", str(RunDirectory(Path(run_dir)).ranks), "train", *arguments, *chosen),
    ]


def _number(environment: Mapping[str, str], name: str, default: int, lowest: int) -> int:
    text = environment.get(name) or str(default)
    if not re.fullmatch("[0-9]{1,9}", text) or int(text) < lowest:
        raise UserError(f"{name}={text} is not a number from {lowest} on.")
    return int(text)


def _run(arguments: list[str]) -> int:
    these = machines(os.environ)
    config = parse(arguments, CHECKS_OF_A_START)
    threads = max(1, len(os.sched_getaffinity(0)) // config.trainer.devices)
    defaults = {"OMP_NUM_THREADS": str(threads), **on_loopback(these.address or "127.0.0.1")}
    words = command(config, arguments, these)
    os.execve(words[0], words, {**defaults, **os.environ})


def main(arguments: list[str]) -> int:
    """Become torchrun; returns an exit code only where that cannot be."""
    return cli.attempt(_run, arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

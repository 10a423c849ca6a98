"""One process of torchrun's: it takes a log of its own, and becomes a rank.

Run as a program, this file is what `poise.torchrun` has torchrun start: `python -m poise.torchrun_rank LOGS train …`.
"""

import os
import runpy
import sys
from pathlib import Path


def main(logs: Path, words: list[str]) -> None:
    """Run `poise`, which ends this process; rank 0 speaks where torchrun does, the others into files in `logs`."""
    rank = os.environ["RANK"]
    if rank != "0":
        logs.mkdir(parents=True, exist_ok=True)
        log = os.open(logs / f"rank-{rank}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        for stream in (sys.stdout, sys.stderr):
            os.dup2(log, stream.fileno())
    sys.argv[1:] = words
    runpy.run_module("poise", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])

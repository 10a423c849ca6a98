"""What the command costs where nothing trains: `python tests/benchmarks/commands.py` prints the table of README.md."""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

HEADER = """\
| command | median | min – max | target |
| --- | --- | --- | --- |"""


@dataclass(frozen=True)
class Command:
    """One call of `poise`.

    Args:
        words: after `poise`.
        target: seconds not to be exceeded.
        code: with which it ends.
    """

    words: Sequence[str]
    target: float
    code: int = 0

    def __str__(self) -> str:
        return f"`poise {' '.join(self.words)}`".replace("\n", " ")


COMMANDS = [
    Command(["--version"], 0.3),
    Command(["--help"], 0.3),
    Command(["help", "train"], 0.3),
    Command(["list"], 2.0),
    Command(["list", "recipes"], 2.0),
    Command(["list", "trades"], 2.0),
    Command(["train", "recipe=trades,mixup,group_dro", "data=colored_digits", "--print-config"], 3.0),
    Command(["train", "recipe=trades_cifar10", "--print-config"], 3.0),
    Command(["train", "recipe=tradse", "trainer.max_epoch=3", "threat.eps=8", "seed=x"], 3.0, 2),
    Command(["train", "data=npz", "data.path=missing.npz"], 3.0, 2),
    Command(["completion", "words", "poise\ntrain\nrecipe=trades\nrecipe.tr\n"], 0.5),
]


def seconds(command: Command, folder: str) -> float:
    """Of one call, from start to end, as a shell starts it.

    Raises:
        RuntimeError: it did not end as it should.
    """
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "poise", *command.words], cwd=folder, env=environment, capture_output=True, check=False
    )
    taken = time.perf_counter() - start
    if done.returncode != command.code:
        raise RuntimeError(f"{command} ended with {done.returncode}: {done.stderr.decode()}")
    return taken


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=15, help="calls of each command, after one that is not counted")
    turns = parser.parse_args().turns
    print(f"Python {sys.version.split()[0]}, {turns} calls of each\n\n{HEADER}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for command in COMMANDS:
            times = [seconds(command, folder) for _ in range(turns + 1)][1:]
            cells = (f"{median(times):.3f}", f"{min(times):.3f} – {max(times):.3f}", f"{command.target:.1f}")
            print(f"| {command} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

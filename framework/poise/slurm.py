"""What Slurm's programs are asked, and what they say."""

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from poise.errors import UserError

OVER = "Invalid job id"  # says squeue of a single job that is over
CLUSTER = "CLUSTER: "  # stands above the jobs of a cluster that is named
STATE = re.compile(r"([0-9]+(?:_[0-9]+)?)\s+([A-Z_]+)")
SQUEUE_WAITS = 60  # seconds
SBATCH_WAITS = 180  # seconds: where the queue is full it tries again for two minutes by itself
LONGEST = 500  # characters of what a program says


def sbatch(file: Path) -> str:
    """Submit a job; its number, and `;` and its cluster where that was named.

    Raises:
        UserError: sbatch does not take it.
    """
    perhaps = "see whether the job is queued all the same (squeue --me), and scancel it if so"
    done = _answer(["sbatch", "--parsable", str(file)], SBATCH_WAITS, perhaps)
    if done.returncode:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise UserError(f"sbatch did not take the job: {_line(done.stderr) or ended}")
    said = re.search(r"(?<!\S)[0-9]+(;\S+)?$", done.stdout.strip())  # a cluster may have words of its own before it
    if said is None:
        words = _line(f"{done.stdout} {done.stderr}") or "nothing"
        raise UserError(f"sbatch gave no number of a job, and said {words}")
    return said[0]


def squeue(numbers: Iterable[str]) -> dict[str, str]:
    """Those of some jobs that are queued or running, and how each is, as Slurm says it: PENDING, RUNNING ….

    Where there is no squeue nobody knows, and none is.

    Args:
        numbers: as sbatch gave them, `4711` or `4711;cluster`; of an array's job `4711_3` or `4711_3;cluster`.

    Raises:
        UserError: squeue is there and cannot say.
    """
    if shutil.which("squeue") is None:
        return {}
    by_cluster: dict[str, list[str]] = {}
    for number in numbers:
        by_cluster.setdefault(number.partition(";")[2], []).append(number)
    found: dict[str, str] = {}
    for cluster, some in by_cluster.items():
        states = _states(cluster, {_job(number) for number in some})
        found |= {number: states[place] for number in some if (place := number.partition(";")[0]) in states}
    return found


def _job(number: str) -> str:
    return re.split("[_;]", number)[0]


def _states(cluster: str, jobs: Iterable[str]) -> dict[str, str]:
    there = [f"--clusters={cluster}"] if cluster else []
    words = ["squeue", "--noheader", "--format=%i %T", f"--jobs={','.join(sorted(jobs))}", *there, "--array"]
    done = _answer(words, SQUEUE_WAITS, "try again when it does")
    if done.returncode and OVER not in done.stderr:
        said = _line(done.stderr) or f"exit code {done.returncode}"
        raise UserError(f"squeue cannot say which jobs are still queued: {said}")
    return dict(_state(line) for line in done.stdout.splitlines() if line.strip() and not line.startswith(CLUSTER))


def _state(line: str) -> tuple[str, str]:
    """A job's number and how it is. What cannot be read may be a job: taken for none, it would be submitted twice."""
    said = STATE.fullmatch(line.strip())
    if said is None:
        raise UserError(f"squeue cannot say which jobs are still queued: {_line(line)!r} is no number and state of one")
    return said[1], said[2]


def _answer(words: Sequence[str], seconds: float, otherwise: str) -> subprocess.CompletedProcess[str]:
    """What one of Slurm's programs says, which waits long for a controller that is away."""
    try:
        return subprocess.run(words, capture_output=True, text=True, errors="replace", check=False, timeout=seconds)
    except subprocess.TimeoutExpired:
        raise UserError(f"{words[0]} has not answered for {seconds:g} s: {otherwise}") from None


def _line(text: str) -> str:
    """What a program says, on one line; of much the beginning."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"

"""What Slurm's programs are asked, and what they say."""

import re
import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

from poise.errors import UserError

OVER = "Invalid job id"  # says squeue of a single job that is over


def sbatch(file: Path) -> str:
    """Submit a job; its number, and `;` and its cluster where that was named.

    Raises:
        UserError: sbatch does not take it.
    """
    done = subprocess.run(
        ["sbatch", "--parsable", str(file)], capture_output=True, text=True, errors="replace", check=False
    )
    errors = " ".join(done.stderr.split())
    if done.returncode:
        ended = f"signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
        raise UserError(f"sbatch did not take the job: {errors or ended}")
    said = re.search(r"(?<!\S)[0-9]+(;\S+)?$", done.stdout.strip())  # a cluster may have words of its own before it
    if said is None:
        words = " ".join(f"{done.stdout} {errors}".split()) or "nothing"
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
    done = subprocess.run(words, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode and OVER not in done.stderr:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise UserError(f"squeue cannot say which jobs are still queued: {said}")
    lines = (line.partition(" ") for line in done.stdout.splitlines())
    return {number: state.strip() for number, _, state in lines}
